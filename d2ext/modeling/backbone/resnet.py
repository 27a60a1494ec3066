"""A ResNet of stem, blocks and stages by name, and the C4 head that has its last stage.

Source: He et al., "Deep Residual Learning", 2016, arXiv:1512.03385.
"""

from typing import cast

from torch import nn

from d2ext.errors import ConfigError
from d2ext.modeling.backbone.resnet_parts import build_stage, build_stem
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, ROI_HEADS_REGISTRY
from detectron2.modeling.backbone.resnet import ResNet
from detectron2.modeling.roi_heads import Res5ROIHeads


@BACKBONE_REGISTRY.register()
def build_named_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build the ResNet that `MODEL.RESNETS` names part by part; its parameters are Detectron2's.

    Raises:
        ConfigError: a stem, block or list of stages is unknown, or RES5_DILATION is not 1 or 2.
    """
    section = cfg.MODEL.RESNETS
    if section.RES5_DILATION not in (1, 2):
        raise ConfigError(f"MODEL.RESNETS.RES5_DILATION is 1 or 2, got {section.RES5_DILATION}.")
    names = [f"res{index + 2}" for index in range(4)]
    unknown = sorted(set(section.OUT_FEATURES) - {"stem", *names})
    if unknown:
        raise ConfigError(
            f"MODEL.RESNETS.OUT_FEATURES: {unknown[0]!r} is none of stem, {', '.join(names)}."
        )
    # A stage that nothing reads would be an unused parameter in distributed training.
    last = max(names.index(name) if name in names else -1 for name in section.OUT_FEATURES)
    return ResNet(
        build_stem(section, cast(int, input_shape.channels)),
        [build_stage(section, index) for index in range(last + 1)],
        out_features=section.OUT_FEATURES,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )


@ROI_HEADS_REGISTRY.register()
class NamedRes5ROIHeads(Res5ROIHeads):
    """Detectron2's C4 head, whose res5 is of the blocks that `MODEL.RESNETS` names."""

    @classmethod
    def _build_res5_block(cls, cfg: CfgNode) -> tuple[nn.Sequential, int]:
        blocks = build_stage(cfg.MODEL.RESNETS, 3)
        return nn.Sequential(*blocks), blocks[-1].out_channels
