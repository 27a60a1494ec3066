"""From the settings of a case to a config; what the config has no counterpart for is refused."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from d2ext.config import get_cfg
from d2ext.errors import DataError
from detectron2.config import CfgNode

Settings = Mapping[str, Any]
Shapes = Mapping[str, Sequence[int]]  # of the published weights, by the authors' names


@dataclass(frozen=True)
class Section:
    """How a part of a case's settings maps to a section of the config.

    Names that are not mentioned are our keys in capitals.

    Args:
        path: of the section of the config.
        renamed: names that have another key, and that key.
        fixed: names of which one value exists here, and that value.
        ignored: names that change nothing that a case compares.
        elsewhere: names that are read by code of their own.
    """

    path: str
    renamed: Mapping[str, str] = field(default_factory=dict)
    fixed: Settings = field(default_factory=dict)
    ignored: Collection[str] = ()
    elsewhere: Collection[str] = ()

    def merge(self, cfg: CfgNode, where: str, settings: Settings) -> None:
        """Write `settings`, the part `where` of a case, into its section, in the types of its keys.

        Raises:
            DataError: one has no key of ours, or a value that does not exist here.
        """
        node = reduce(getattr, self.path.split("."), cfg)
        for name, value in settings.items():
            key = self.renamed.get(name, name.upper())
            if name in self.fixed:
                check_fixed(f"{where}.{name}", value, self.fixed[name])
            elif name in (*self.ignored, *self.elsewhere):
                continue
            elif key in node:
                node[key] = value if node[key] is None else type(node[key])(value)
            else:
                raise DataError(f"case.json: {where}.{name}: not known here")


def check_fixed(name: str, value: Any, only: Any) -> None:
    """Raises:
    DataError: a setting has another value than the one that exists here.
    """
    if value != only:
        raise DataError(f"case.json: {name}: there is no {value!r} here, only {only!r}")


SWIN = Section(
    "MODEL.SWIN",
    fixed={
        "patch_size": 4,
        "qkv_bias": True,
        "ape": False,
        "absolute_position": False,
        "layer_norm_eps": 1e-5,
    },
    # The authors have keys for a version and an output norm that they never read.
    ignored=(
        *("words", "version", "out_norm", "freeze_at", "drop_path_rate"),
        *("drop_path_during_training_case", "drop_path_during_gradients", "use_checkpoint"),
    ),
)
DYHEAD = Section(
    "MODEL.DYHEAD",
    renamed={"blocks": "NUM_BLOCKS", "num_convs": "NUM_BLOCKS"},
    fixed={"group_norm_groups": 16, "dynamic_relu_reduction": 4, "deformable_groups": 1},
    ignored=("words",),
    elsewhere=("levels", "channels"),
)
PARTS = {
    "fpn": Section("MODEL.FPN", renamed={"fuse": "FUSE_TYPE"}, elsewhere=("norm",)),
    "resnet": Section("MODEL.RESNETS", elsewhere=("freeze_at",)),
    "swin": SWIN,
    "dyhead": DYHEAD,
    "anchors": Section("MODEL.ANCHOR_GENERATOR", elsewhere=("aspect_ratios",)),
    "atss": Section(
        "MODEL.ATSS",
        renamed={
            "inference_th": "SCORE_THRESH_TEST",
            "pre_nms_top_n": "TOPK_CANDIDATES_TEST",
            "nms_th": "NMS_THRESH_TEST",
            "use_dcn_in_tower": "DEFORMABLE_TOWER",
            "use_deformable": "DEFORMABLE_TOWER",
        },
        # Of a matcher that the authors make and never ask.
        ignored=("iou_thresholds", "iou_labels"),
        elsewhere=("use_gn", "max_detections"),
    ),
    "retinanet": Section("MODEL.RETINANET", elsewhere=("max_detections",)),
    "fcos": Section(
        "MODEL.FCOS",
        renamed={
            "loss_alpha": "FOCAL_LOSS_ALPHA",
            "loss_gamma": "FOCAL_LOSS_GAMMA",
            "loc_loss_type": "BOX_LOSS",
            "num_share_convs": "NUM_SHARED_CONVS",
            "use_scale": "LEVEL_SCALES",
            "use_deformable": "DEFORMABLE_TOWER",
            "inference_th_test": "SCORE_THRESH_TEST",
            "thresh_with_ctr": "THRESH_WITH_QUALITY",
            "pre_nms_topk_test": "TOPK_CANDIDATES_TEST",
            "nms_th": "NMS_THRESH_TEST",
        },
        fixed={
            "use_relu": True,
            "loss_normalizer_cls": "fg",
            "loss_weight_cls": 1.0,
            "yield_proposal": False,
            "yield_box_features": False,
        },
        # Of training as a proposal generator.
        ignored=("inference_th_train", "pre_nms_topk_train", "post_nms_topk_train"),
        elsewhere=(
            *("norm", "box_quality", "center_sample", "pos_radius", "top_levels", "fpn_strides"),
            "post_nms_topk_test",
        ),
    ),
    "proposal_generator": Section("MODEL.PROPOSAL_GENERATOR"),
    "rpn": Section("MODEL.RPN"),
    "roi_heads": Section("MODEL.ROI_HEADS", elsewhere=("max_detections",)),
    "roi_box_head": Section("MODEL.ROI_BOX_HEAD"),
}
PLAIN = (
    *("words", "config_file", "num_classes", "pixel_mean", "pixel_std", "input_format"),
    *("size_divisibility", "centerness_on"),
)
HEADS = {
    "atss": "ATSS",
    "retinanet": "RetinaNet",
    "fcos": "FCOS",
    "roi_heads": "GeneralizedRCNN",
}
QUALITIES = {"ctrness": "centerness", "centerness": "centerness", "iou": "iou"}
BRANCHES = {"bbox_tower": "box", "cls_tower": "class"}


def detector_config(settings: Settings, shapes: Shapes) -> CfgNode:
    """The config of the detector that a case describes, on the CPU.

    Args:
        settings: of the case.
        shapes: of the published weights; they tell what the settings leave open.
    Raises:
        DataError: a setting is not known, or has a value that does not exist here.
    """
    unknown = [name for name in settings if name not in PARTS and name not in PLAIN]
    heads = [head for name, head in HEADS.items() if name in settings]
    if unknown:
        raise DataError(f"case.json: config.{unknown[0]}: not known here")
    if len(heads) != 1:
        raise DataError(f"case.json: config: one of {', '.join(HEADS)} has to be there")
    cfg = get_cfg()
    cfg.MODEL.DEVICE, cfg.MODEL.META_ARCHITECTURE = "cpu", heads[0]
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = settings["pixel_mean"], settings["pixel_std"]
    cfg.INPUT.FORMAT = settings["input_format"]
    for name in (name for name in PARTS if name in settings):
        PARTS[name].merge(cfg, f"config.{name}", settings[name])
        if name in RULES:
            RULES[name](cfg, settings, shapes)
    return cfg


def _set_fpn(cfg: CfgNode, settings: Settings, shapes: Shapes) -> None:
    fpn = cfg.MODEL.FPN
    fpn.NORM = _norm(settings["fpn"]["norm"])
    tops = [shape for name, shape in shapes.items() if ".top_block.p" in name and len(shape) == 4]
    cfg.MODEL.BACKBONE.NAME, fpn.TOP_LEVELS = "FPNBackbone", len(tops)
    if tops and tops[0][1] != fpn.OUT_CHANNELS:
        fpn.TOP_FEATURE = fpn.IN_FEATURES[-1]
    if "roi_heads" in settings and not tops:
        cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"  # its P6 is P5 by pooling


def _set_resnet(cfg: CfgNode, settings: Settings, shapes: Shapes) -> None:
    cfg.MODEL.FPN.BOTTOM_UP = "build_resnet_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = settings["resnet"].get("freeze_at", cfg.MODEL.BACKBONE.FREEZE_AT)


def _set_swin(cfg: CfgNode, settings: Settings, shapes: Shapes) -> None:
    cfg.MODEL.FPN.BOTTOM_UP = "SwinTransformer"
    cfg.MODEL.SWIN.DROP_PATH_RATE = 0.0


def _set_dyhead(cfg: CfgNode, settings: Settings, shapes: Shapes) -> None:
    cfg.MODEL.DYHEAD.BACKBONE, cfg.MODEL.BACKBONE.NAME = cfg.MODEL.BACKBONE.NAME, "DyHead"
    cfg.MODEL.DYHEAD.SIZE_DIVISIBILITY = settings["size_divisibility"]
    width = cfg.MODEL.FPN.OUT_CHANNELS
    check_fixed("config.dyhead.channels", settings["dyhead"].get("channels", width), width)


def _set_anchors(cfg: CfgNode, settings: Settings, shapes: Shapes) -> None:
    ratios = settings["anchors"]["aspect_ratios"]
    nested = ratios if isinstance(ratios[0], Sequence) else [ratios]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = nested


def _set_atss(cfg: CfgNode, settings: Settings, shapes: Shapes) -> None:
    cfg.MODEL.ATSS.NORM = "GN" if settings["atss"].get("use_gn", True) else ""
    cfg.MODEL.ATSS.PREDICTOR_SIZE = shapes["head.cls_logits.weight"][-1]
    _set_most(cfg, settings["atss"])


def _set_fcos(cfg: CfgNode, settings: Settings, shapes: Shapes) -> None:
    node, fcos = cfg.MODEL.FCOS, settings["fcos"]
    node.NORM, node.CHANNELS = _norm(fcos["norm"]), cfg.MODEL.FPN.OUT_CHANNELS
    node.CENTER_RADIUS = float(fcos["pos_radius"]) if fcos["center_sample"] else 0.0
    node.QUALITY = _one_of(QUALITIES, "fcos.box_quality", fcos["box_quality"])
    branch = settings.get("centerness_on", "bbox_tower")
    node.QUALITY_BRANCH = _one_of(BRANCHES, "centerness_on", branch)
    strides = [2 ** int(name.removeprefix("p")) for name in node.IN_FEATURES]
    check_fixed("config.fcos.fpn_strides", fcos.get("fpn_strides", strides), strides)
    check_fixed("config.fcos.top_levels", fcos.get("top_levels", 2), cfg.MODEL.FPN.TOP_LEVELS)
    cfg.TEST.DETECTIONS_PER_IMAGE = fcos["post_nms_topk_test"]


def _set_retinanet(cfg: CfgNode, settings: Settings, shapes: Shapes) -> None:
    _set_most(cfg, settings["retinanet"])


def _set_roi_heads(cfg: CfgNode, settings: Settings, shapes: Shapes) -> None:
    _set_most(cfg, settings["roi_heads"])


RULES: dict[str, Callable[[CfgNode, Settings, Shapes], None]] = {
    "fpn": _set_fpn,
    "resnet": _set_resnet,
    "swin": _set_swin,
    "dyhead": _set_dyhead,
    "anchors": _set_anchors,
    "atss": _set_atss,
    "retinanet": _set_retinanet,
    "fcos": _set_fcos,
    "roi_heads": _set_roi_heads,
}


def _set_most(cfg: CfgNode, head: Settings) -> None:
    most = head.get("max_detections", cfg.TEST.DETECTIONS_PER_IMAGE)
    cfg.TEST.DETECTIONS_PER_IMAGE = most


def _norm(name: str) -> str:
    """What `detectron2.layers.get_norm` calls a norm of the authors."""
    return {"none": "", "NaiveGN": "GN"}.get(name, name)


def _one_of(known: Mapping[str, str], name: str, value: str) -> str:
    if value not in known:
        raise DataError(
            f"case.json: config.{name}: there is no {value!r} here, only {', '.join(known)}"
        )
    return known[value]
