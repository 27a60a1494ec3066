"""Heads of regions with a mask head of PointRend."""

from typing import Any

from torch import nn

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY, StandardROIHeads

__all__ = ["PointRendROIHeads"]

# Prefixes of weights of version 1 -> of version 2.
_RENAMED = {
    "mask_point_head.": "mask_head.point_head.",
    "mask_coarse_head.": "mask_head.coarse_head.",
}


@ROI_HEADS_REGISTRY.register()
class PointRendROIHeads(StandardROIHeads):
    """`StandardROIHeads` that read configs and weights of older versions of PointRend."""

    _version = 2

    @classmethod
    def _init_mask_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        if cfg.MODEL.ROI_MASK_HEAD.NAME == "CoarseMaskHead":  # its name in version 1
            cfg = cfg.clone()
            cfg.defrost()
            cfg.MODEL.ROI_MASK_HEAD.NAME = "PointRendMaskHead"
            cfg.MODEL.ROI_MASK_HEAD.POOLER_TYPE = ""
        return super()._init_mask_head(cfg, input_shape)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        for old, new in _RENAMED.items():
            for name in [each for each in state_dict if each.startswith(prefix + old)]:
                rest = name.removeprefix(prefix + old)
                state_dict[prefix + new + rest] = state_dict.pop(name)
        nn.Module._load_from_state_dict(self, state_dict, prefix, *args, **kwargs)
