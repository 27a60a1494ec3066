"""From the settings of DETR3D's cases to a config."""

import re
from collections.abc import Callable, Collection, Mapping
from math import log2
from typing import Any

import d2ext.projects.detr3d as project
from d2ext.config import get_cfg
from d2ext.errors import DataError
from d2ext.parity.settings import Settings, check_fixed, check_known
from detectron2.config import CfgNode

# Settings of a case -> keys of `MODEL.DETR3D`.
KEYS = {
    "num_classes": "NUM_CLASSES",
    "num_query": "NUM_QUERIES",
    "decoder_layers": "NUM_LAYERS",
    "embed_dims": "CHANNELS",
    "heads": "NUM_HEADS",
    "ffn": "FEEDFORWARD",
    "cameras": "NUM_CAMERAS",
    "pc_range": "POINT_RANGE",
    "post_center_range": "CENTRE_RANGE",
}
# Further names, at the top level or, with the path of a part, in it.
KNOWN: Mapping[str, Collection[str]] = {
    "config": (
        *("in_words", "points", "levels", "max_num", "code_weights", "dropout", "loss", "cost"),
        *("backbone", "neck", "first_stride", "batch_norm"),
    ),
    "config.loss": ("focal", "l1", "iou"),
    "config.loss.focal": ("weight", "alpha", "gamma"),
    "config.loss.l1": ("weight",),
    "config.loss.iou": ("weight",),
    "config.cost": ("focal", "l1", "iou"),
    "config.neck": (
        *("kind", "in_channels", "out_channels", "start_level", "num_outs", "add_extra_convs"),
        "relu_before_extra_convs",
    ),
}
RESNET = (
    *("kind", "depth", "num_stages", "out_indices", "frozen_stages", "norm_cfg", "norm_eval"),
    *("style", "dcn", "stage_with_dcn", "with_cp", "init_cfg"),
)
VOVNET = ("kind", "spec_name", "norm_eval", "frozen_stages", "input_ch", "out_features")
VOVNETS = {"V-39-eSE": [1, 1, 2, 2], "V-57-eSE": [1, 1, 4, 3], "V-99-eSE": [1, 3, 9, 3]}
FINEST_STRIDE = 8  # of the features, where a case of the head alone does not say
_NUMBERS = r"\[([^\]]*)\]"


def head_config(settings: Settings) -> CfgNode:
    """Build the config of the head, matching and losses, on the CPU, without augmentation.

    Raises:
        DataError: a setting is unknown, or has a value without a counterpart here.
    """
    check_known("config", settings, (*KEYS, *KNOWN["config"]))
    for part in ("loss", "cost"):
        _check_parts(f"config.{part}", settings[part])
    cfg = get_cfg()
    project.add_config(cfg)
    section = cfg.MODEL.DETR3D
    for name, key in KEYS.items():
        section[key] = settings[name]
    check_fixed("config.points", settings.get("points", 1), 1)
    finest = int(log2(settings.get("first_stride", FINEST_STRIDE)))
    section.IN_FEATURES = [f"p{finest + level}" for level in range(settings["levels"])]
    weights, costs = settings["loss"], settings["cost"]
    check_fixed("config.cost.iou", costs.get("iou", 0.0), 0.0)
    check_fixed("config.loss.iou.weight", weights.get("iou", {}).get("weight", 0.0), 0.0)
    section.LOSS.CODE_WEIGHTS = settings["code_weights"]
    section.LOSS.CLASS_WEIGHT = weights["focal"]["weight"]
    section.LOSS.FOCAL_ALPHA = weights["focal"]["alpha"]
    section.LOSS.FOCAL_GAMMA = weights["focal"]["gamma"]
    section.LOSS.L1_WEIGHT = weights["l1"]["weight"]
    section.MATCHER.CLASS_WEIGHT, section.MATCHER.L1_WEIGHT = costs["focal"], costs["l1"]
    section.DROPOUT, section.GRID_MASK_PROB = 0.0, 0.0
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE = "DETR3D", "cpu"
    cfg.TEST.DETECTIONS_PER_IMAGE = settings["max_num"]
    return cfg


def detector_config(settings: Settings, given: Settings) -> CfgNode:
    """Build the config of the whole detector.

    Args:
        settings: the case's "config".
        given: the case's "input", whose text about features has the normalisation.
    Raises:
        DataError: a setting has a value without a counterpart here.
    """
    cfg = head_config(settings)
    backbone, neck = settings["backbone"], settings["neck"]
    kind = backbone["kind"]
    if kind not in _BACKBONES:
        raise DataError(
            f"case.json: config.backbone.kind: {kind!r} is none of {', '.join(_BACKBONES)}"
        )
    features = _BACKBONES[kind](cfg, backbone)
    check_known("config.neck", neck, KNOWN["config.neck"])
    check_fixed("config.neck.kind", neck["kind"], "FPN")
    cfg.MODEL.BACKBONE.NAME = "FPNBackbone"
    cfg.MODEL.FPN.OUT_CHANNELS = neck["out_channels"]
    cfg.MODEL.FPN.IN_FEATURES = features[neck["start_level"] :]
    cfg.MODEL.FPN.TOP_LEVELS = neck["num_outs"] - len(cfg.MODEL.FPN.IN_FEATURES)
    if cfg.MODEL.FPN.TOP_LEVELS:
        check_fixed("config.neck.add_extra_convs", neck["add_extra_convs"], "on_output")
    if cfg.MODEL.FPN.TOP_LEVELS > 1:  # nothing stands before the first one
        relu = neck.get("relu_before_extra_convs", False)
        check_fixed("config.neck.relu_before_extra_convs", relu, True)
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = normalisation(given["features"])
    return cfg


def _check_parts(where: str, settings: Settings) -> None:
    """Check the names of a part of the settings, and of its own parts."""
    check_known(where, settings, KNOWN[where])
    for name, value in settings.items():
        if isinstance(value, Mapping):
            _check_parts(f"{where}.{name}", value)


def normalisation(text: str) -> tuple[list[float], list[float]]:
    """Parse mean and standard deviation from "minus [m, m, m], divided by [s, s, s]".

    Raises:
        DataError: the text has no such part.
    """
    found = re.search(rf"minus {_NUMBERS}, divided by {_NUMBERS}", text)
    if found is None:
        raise DataError(
            "case.json: input.features: expected 'minus [m, m, m], divided by [s, s, s]', got "
            f"{text!r}"
        )
    mean, std = ([float(number) for number in part.split(",")] for part in found.groups())
    return mean, std


def _use_resnet(cfg: CfgNode, backbone: Settings) -> list[str]:
    """Set the backbone to a ResNet and return the names of its features."""
    where = "config.backbone"
    check_known(where, backbone, RESNET)
    resnet, deformable, norm = cfg.MODEL.RESNETS, backbone.get("dcn"), backbone["norm_cfg"]
    check_fixed(f"{where}.num_stages", backbone.get("num_stages", 4), 4)
    check_fixed(f"{where}.norm_eval", backbone.get("norm_eval", True), True)
    check_known(f"{where}.norm_cfg", norm, ("type", "requires_grad"))
    if norm["type"] != "BN":  # mmdetection has two names for it
        check_fixed(f"{where}.norm_cfg.type", norm["type"], "BN2d")
    resnet.DEPTH, resnet.STRIDE_IN_1X1 = backbone["depth"], backbone["style"] == "caffe"
    resnet.OUT_FEATURES = [f"res{index + 2}" for index in backbone["out_indices"]]
    if deformable:
        check_known(f"{where}.dcn", deformable, ("type", "deform_groups", "fallback_on_stride"))
        check_fixed(
            f"{where}.dcn.fallback_on_stride", deformable.get("fallback_on_stride", False), False
        )
        resnet.DEFORM_ON_PER_STAGE = backbone["stage_with_dcn"]
        resnet.DEFORM_MODULATED = deformable["type"] == "DCNv2"
        resnet.DEFORM_NUM_GROUPS = deformable.get("deform_groups", 1)
    # In evaluation mode with gradients of scales and biases, where these are trained.
    resnet.NORM = "BN" if norm["requires_grad"] else "FrozenBN"
    cfg.MODEL.BACKBONE.FREEZE_AT = backbone["frozen_stages"] + 1
    cfg.MODEL.FPN.BOTTOM_UP = "build_resnet_backbone"
    return list(resnet.OUT_FEATURES)


def _use_vovnet(cfg: CfgNode, backbone: Settings) -> list[str]:
    """Set the backbone to a VoVNet and return the names of its features."""
    check_known("config.backbone", backbone, VOVNET)
    check_fixed("config.backbone.norm_eval", backbone.get("norm_eval", True), True)
    check_fixed("config.backbone.input_ch", backbone.get("input_ch", 3), 3)
    name, vovnet = backbone["spec_name"], cfg.MODEL.VOVNET
    if name not in VOVNETS:
        raise DataError(
            f"case.json: config.backbone.spec_name: {name!r} is none of {', '.join(VOVNETS)}"
        )
    vovnet.STAGE_BLOCKS, vovnet.OUT_FEATURES = VOVNETS[name], list(backbone["out_features"])
    # The authors freeze stages when training begins, so that a case may have their gradients.
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.FPN.BOTTOM_UP = "VoVNet"
    return list(vovnet.OUT_FEATURES)


_BACKBONES: Mapping[str, Callable[[CfgNode, Any], list[str]]] = {
    "ResNet": _use_resnet,
    "VoVNet": _use_vovnet,
}
