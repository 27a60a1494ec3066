"""The backbones of reference cases, by the names that the authors' options have for them."""

import re

from d2ext.errors import DataError
from d2ext.parity.core_settings import SWIN
from d2ext.parity.settings import check_fixed
from detectron2.config import CfgNode

_SWIN = re.compile(r"swin_([TBL])_(224|384)_(1k|22k)")
# Embedding width, blocks of the third stage and heads of the first stage.
_SWIN_SIZES = {"T": (96, 6, 3), "B": (128, 18, 4), "L": (192, 18, 6)}
_SWIN_WINDOWS = {"224": 7, "384": 12}
_RESNET = re.compile(r"resnet(50|101|152)")


def set_backbone(cfg: CfgNode, settings: dict, stages: list[int]) -> list[str]:
    """Set the backbone that a case names, with the feature maps of some stages.

    Args:
        cfg: changed in place.
        settings: the case's `config`; a part "swin" of it overrides what the name implies.
        stages: numbers of the stages, 2 to 5, with strides 4 to 32.
    Returns:
        The names of the feature maps.
    Raises:
        DataError: the backbone is not known here.
    """
    name = settings["backbone"]
    if found := _RESNET.fullmatch(name):
        return _set_resnet(cfg, int(found[1]), stages, bool(settings.get("dilation")))
    if found := _SWIN.fullmatch(name):
        check_fixed("config.dilation", settings.get("dilation", False), False)
        _set_swin(cfg, *_SWIN_SIZES[found[1]], _SWIN_WINDOWS[found[2]])
        SWIN.merge(cfg, "config.swin", settings.get("swin", {}))
        cfg.MODEL.SWIN.OUT_FEATURES = [f"stage{stage}" for stage in stages]
        return list(cfg.MODEL.SWIN.OUT_FEATURES)
    raise DataError(
        f"case.json: config.backbone: {name!r} is not known here, only ResNets such as resnet50 "
        "and Swin Transformers such as swin_T_224_1k"
    )


def _set_resnet(cfg: CfgNode, depth: int, stages: list[int], dilated: bool) -> list[str]:
    cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    if dilated:
        cfg.MODEL.BACKBONE.NAME = "build_dilated_resnet_backbone"
        cfg.MODEL.RESNETS.RES5_DILATION = 2
    cfg.MODEL.RESNETS.DEPTH = depth
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    cfg.MODEL.RESNETS.OUT_FEATURES = [f"res{stage}" for stage in stages]
    return list(cfg.MODEL.RESNETS.OUT_FEATURES)


def _set_swin(cfg: CfgNode, width: int, depth: int, heads: int, window: int) -> None:
    cfg.MODEL.BACKBONE.NAME = "SwinTransformer"
    swin = cfg.MODEL.SWIN
    swin.EMBED_DIM, swin.DEPTHS, swin.WINDOW_SIZE = width, [2, 2, depth, 2], window
    swin.NUM_HEADS = [heads * 2**stage for stage in range(4)]
    swin.DROP_PATH_RATE = 0.0  # losses and gradients are computed without random paths
