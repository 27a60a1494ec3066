"""From the settings of a case of a whole detector to a config."""

from collections.abc import Mapping
from typing import Any

from d2ext.config import get_cfg
from detectron2.config import CfgNode

Settings = Mapping[str, Any]

# Names that the authors use for what our config calls otherwise; the rest is the same in capitals.
ATSS = {
    "inference_th": "SCORE_THRESH_TEST",
    "pre_nms_top_n": "TOPK_CANDIDATES_TEST",
    "nms_th": "NMS_THRESH_TEST",
}
FCOS = {
    "pos_radius": "CENTER_RADIUS",
    "loss_alpha": "FOCAL_LOSS_ALPHA",
    "loss_gamma": "FOCAL_LOSS_GAMMA",
    "loc_loss_type": "BOX_LOSS",
    "num_cls_convs": "NUM_CONVS",
    "use_deformable": "DEFORMABLE_TOWER",
    "inference_th_test": "SCORE_THRESH_TEST",
    "thresh_with_ctr": "THRESH_WITH_QUALITY",
    "pre_nms_topk_test": "TOPK_CANDIDATES_TEST",
    "nms_th": "NMS_THRESH_TEST",
}


def detector_config(settings: Settings) -> CfgNode:
    """The config of the detector that a case describes, on the CPU."""
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = settings["pixel_mean"], settings["pixel_std"]
    cfg.INPUT.FORMAT = settings["input_format"]
    _set_pyramid(cfg, settings)
    for name, set_head in HEADS.items():
        if name in settings:
            set_head(cfg, settings)
            return cfg
    raise KeyError(f"none of {', '.join(HEADS)} among the settings {', '.join(settings)}")


def _set_pyramid(cfg: CfgNode, settings: Settings) -> None:
    cfg.MODEL.BACKBONE.NAME = "FPNBackbone"
    if "dyhead" in settings:
        cfg.MODEL.BACKBONE.NAME = "DyHead"
        cfg.MODEL.DYHEAD.NUM_BLOCKS = settings["dyhead"]["blocks"]
        cfg.MODEL.DYHEAD.CHANNELS = settings["dyhead"]["channels"]
        cfg.MODEL.DYHEAD.SIZE_DIVISIBILITY = settings["size_divisibility"]
    fpn = settings["fpn"]
    cfg.MODEL.FPN.IN_FEATURES, cfg.MODEL.FPN.OUT_CHANNELS = fpn["in_features"], fpn["out_channels"]
    cfg.MODEL.FPN.NORM = "" if fpn["norm"] == "none" else fpn["norm"]
    cfg.MODEL.FPN.FUSE_TYPE = fpn["fuse"]
    if "swin" in settings:
        cfg.MODEL.FPN.BOTTOM_UP = "SwinTransformer"
        _merge(cfg.MODEL.SWIN, settings["swin"], {})
        cfg.MODEL.SWIN.DROP_PATH_RATE = 0.0
    else:
        cfg.MODEL.FPN.BOTTOM_UP = "build_resnet_backbone"
        cfg.MODEL.BACKBONE.FREEZE_AT = settings["resnet"]["freeze_at"]
        _merge(cfg.MODEL.RESNETS, settings["resnet"], {})


def _set_atss(cfg: CfgNode, settings: Settings) -> None:
    cfg.MODEL.META_ARCHITECTURE = "ATSS"
    _merge(cfg.MODEL.ATSS, settings["atss"], ATSS)
    cfg.TEST.DETECTIONS_PER_IMAGE = settings["atss"]["max_detections"]
    _set_anchors(cfg, settings["anchors"])


def _set_retinanet(cfg: CfgNode, settings: Settings) -> None:
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    _merge(cfg.MODEL.RETINANET, settings["retinanet"], {})
    cfg.TEST.DETECTIONS_PER_IMAGE = settings["retinanet"]["max_detections"]
    _set_anchors(cfg, settings["anchors"])


def _set_fcos(cfg: CfgNode, settings: Settings) -> None:
    cfg.MODEL.META_ARCHITECTURE = "FCOS"
    fcos = settings["fcos"]
    _merge(cfg.MODEL.FCOS, fcos, FCOS)
    cfg.MODEL.FCOS.CHANNELS = settings["fpn"]["out_channels"]
    cfg.MODEL.FCOS.CENTER_RADIUS = float(fcos["pos_radius"]) if fcos["center_sample"] else 0.0
    cfg.MODEL.FCOS.QUALITY = "iou" if fcos["box_quality"] == "iou" else "centerness"
    on_box = settings.get("centerness_on", "bbox_tower") == "bbox_tower"
    cfg.MODEL.FCOS.QUALITY_BRANCH = "box" if on_box else "class"
    cfg.TEST.DETECTIONS_PER_IMAGE = fcos["post_nms_topk_test"]


HEADS = {"atss": _set_atss, "retinanet": _set_retinanet, "fcos": _set_fcos}


def _set_anchors(cfg: CfgNode, anchors: Settings) -> None:
    ratios = anchors["aspect_ratios"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = anchors["sizes"]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = ratios if isinstance(ratios[0], list) else [ratios]
    cfg.MODEL.ANCHOR_GENERATOR.OFFSET = anchors["offset"]


def _merge(section: CfgNode, settings: Settings, renamed: Mapping[str, str]) -> None:
    """Take what the section has a key for, in the key's own type."""
    for name, value in settings.items():
        key = renamed.get(name, name.upper())
        if key in section:
            section[key] = type(section[key])(value)
