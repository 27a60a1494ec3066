"""How the settings of parity cases map to the configs of d2ext's own models."""

from collections.abc import Mapping, Sequence

from d2ext.errors import DataError
from d2ext.parity.settings import (
    Section,
    Settings,
    Shapes,
    check_fixed,
    register_parity_settings,
)
from detectron2.config import CfgNode

SWIN = Section(
    "MODEL.SWIN",
    fixed={
        "patch_size": 4,
        "qkv_bias": True,
        "ape": False,
        "absolute_position": False,
        "layer_norm_eps": 1e-5,
        "qk_scale": None,
        "drop_rate": 0.0,
        "attn_drop_rate": 0.0,
    },
    # The authors have keys for a version and an output norm that they never read. Only absolute
    # positions depend on the size of the images it was trained on.
    ignored=(
        "pretrain_img_size",
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
FPN = Section("MODEL.FPN", renamed={"fuse": "FUSE_TYPE"}, elsewhere=("norm",))
RESNET = Section("MODEL.RESNETS", elsewhere=("freeze_at",))
ANCHORS = Section("MODEL.ANCHOR_GENERATOR", elsewhere=("aspect_ratios",))
ATSS = Section(
    "MODEL.ATSS",
    renamed={
        "inference_th": "SCORE_THRESH_TEST",
        "pre_nms_top_n": "TOPK_CANDIDATES_TEST",
        "nms_th": "NMS_THRESH_TEST",
        "use_dcn_in_tower": "DEFORMABLE_TOWER",
        "use_deformable": "DEFORMABLE_TOWER",
    },
    # Settings of a matcher that the authors build and never use.
    ignored=("iou_thresholds", "iou_labels"),
    elsewhere=("use_gn", "max_detections"),
)
RETINANET = Section("MODEL.RETINANET", elsewhere=("max_detections",))
FCOS = Section(
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
    # Settings of its training as a proposal generator.
    ignored=("inference_th_train", "pre_nms_topk_train", "post_nms_topk_train"),
    elsewhere=(
        *("norm", "box_quality", "center_sample", "pos_radius", "top_levels", "fpn_strides"),
        "post_nms_topk_test",
    ),
)
PROPOSAL_GENERATOR = Section("MODEL.PROPOSAL_GENERATOR")
RPN = Section("MODEL.RPN", ignored=("words",))
ROI_HEADS = Section("MODEL.ROI_HEADS", ignored=("words",), elsewhere=("max_detections",))
ROI_BOX_HEAD = Section("MODEL.ROI_BOX_HEAD", ignored=("words",))
QUALITIES = {"ctrness": "centerness", "centerness": "centerness", "iou": "iou"}
BRANCHES = {"bbox_tower": "box", "cls_tower": "class"}


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
    cfg.MODEL.SWIN.DROP_PATH_RATE, cfg.MODEL.BACKBONE.FREEZE_AT = 0.0, 0


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


def _set_most(cfg: CfgNode, head: Settings) -> None:
    most = head.get("max_detections", cfg.TEST.DETECTIONS_PER_IMAGE)
    cfg.TEST.DETECTIONS_PER_IMAGE = most


def _norm(name: str) -> str:
    """Return the name in `detectron2.layers.get_norm` of a norm of the authors."""
    return {"none": "", "NaiveGN": "GN"}.get(name, name)


def _one_of(known: Mapping[str, str], name: str, value: str) -> str:
    if value not in known:
        raise DataError(
            f"case.json: config.{name}: there is no {value!r} here, only {', '.join(known)}"
        )
    return known[value]


register_parity_settings("fpn", FPN, rule=_set_fpn)
register_parity_settings("resnet", RESNET, rule=_set_resnet)
register_parity_settings("swin", SWIN, rule=_set_swin)
register_parity_settings("dyhead", DYHEAD, rule=_set_dyhead)
register_parity_settings("anchors", ANCHORS, rule=_set_anchors)
register_parity_settings("atss", ATSS, rule=_set_atss, architecture="ATSS")
register_parity_settings("retinanet", RETINANET, rule=_set_retinanet, architecture="RetinaNet")
register_parity_settings("fcos", FCOS, rule=_set_fcos, architecture="FCOS")
register_parity_settings("proposal_generator", PROPOSAL_GENERATOR)
register_parity_settings("rpn", RPN)
register_parity_settings(
    "roi_heads", ROI_HEADS, rule=_set_roi_heads, architecture="GeneralizedRCNN"
)
for _name in ("roi_box_head", "box_head"):
    register_parity_settings(_name, ROI_BOX_HEAD)
