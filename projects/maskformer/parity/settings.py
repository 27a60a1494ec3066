"""How the config keys of the authors' code, the settings of cases, map to ours."""

from collections.abc import Mapping
from typing import Any

from d2ext.parity.settings import Settings, check_fixed, check_known

HEAD, MODEL = "MODEL.SEM_SEG_HEAD", "MODEL.MASK_FORMER"
# Their keys -> ours of the same meaning, both below MODEL.
KEYS = {
    "PIXEL_MEAN": "PIXEL_MEAN",
    "PIXEL_STD": "PIXEL_STD",
    "BACKBONE.FREEZE_AT": "BACKBONE.FREEZE_AT",
    "SEM_SEG_HEAD.NUM_CLASSES": "SEM_SEG_HEAD.NUM_CLASSES",
    "SEM_SEG_HEAD.IGNORE_VALUE": "SEM_SEG_HEAD.IGNORE_VALUE",
    "SEM_SEG_HEAD.LOSS_WEIGHT": "SEM_SEG_HEAD.LOSS_WEIGHT",
    "SEM_SEG_HEAD.NORM": "MASK_FORMER.PIXEL_DECODER.NORM",
    "SEM_SEG_HEAD.CONVS_DIM": "MASK_FORMER.CHANNELS",
    "SEM_SEG_HEAD.DEFORMABLE_TRANSFORMER_ENCODER_N_POINTS": (
        "MASK_FORMER.PIXEL_DECODER.ENCODER_POINTS"
    ),
    "MASK_FORMER.DEEP_SUPERVISION": "MASK_FORMER.DEEP_SUPERVISION",
    "MASK_FORMER.NO_OBJECT_WEIGHT": "MASK_FORMER.LOSS.NO_OBJECT_WEIGHT",
    "MASK_FORMER.CLASS_WEIGHT": "MASK_FORMER.LOSS.CLASS_WEIGHT",
    "MASK_FORMER.DICE_WEIGHT": "MASK_FORMER.LOSS.DICE_WEIGHT",
    "MASK_FORMER.MASK_WEIGHT": "MASK_FORMER.LOSS.MASK_WEIGHT",
    "MASK_FORMER.NHEADS": "MASK_FORMER.NUM_HEADS",
    "MASK_FORMER.DROPOUT": "MASK_FORMER.DROPOUT",
    "MASK_FORMER.DIM_FEEDFORWARD": "MASK_FORMER.FEEDFORWARD",
    "MASK_FORMER.DEC_LAYERS": "MASK_FORMER.DECODER_LAYERS",
    "MASK_FORMER.PRE_NORM": "MASK_FORMER.PRE_NORM",
    "MASK_FORMER.NUM_OBJECT_QUERIES": "MASK_FORMER.NUM_QUERIES",
    "MASK_FORMER.SIZE_DIVISIBILITY": "MASK_FORMER.SIZE_DIVISIBILITY",
    "MASK_FORMER.TRAIN_NUM_POINTS": "MASK_FORMER.LOSS.NUM_POINTS",
    "MASK_FORMER.OVERSAMPLE_RATIO": "MASK_FORMER.LOSS.OVERSAMPLE_RATIO",
    "MASK_FORMER.IMPORTANCE_SAMPLE_RATIO": "MASK_FORMER.LOSS.IMPORTANCE_RATIO",
    "MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD": "MASK_FORMER.TEST.OBJECT_THRESH",
    "MASK_FORMER.TEST.OVERLAP_THRESHOLD": "MASK_FORMER.TEST.OVERLAP_THRESH",
    "RESNETS.NORM": "RESNETS.NORM",
    "RESNETS.STRIDE_IN_1X1": "RESNETS.STRIDE_IN_1X1",
    "RESNETS.STEM_OUT_CHANNELS": "RESNETS.STEM_OUT_CHANNELS",
    "RESNETS.RES2_OUT_CHANNELS": "RESNETS.RES2_OUT_CHANNELS",
    "RESNETS.NUM_GROUPS": "RESNETS.NUM_GROUPS",
    "RESNETS.WIDTH_PER_GROUP": "RESNETS.WIDTH_PER_GROUP",
}
# What `MaskFormerCase` reads, and `_fixed` in some cases only.
READ = (
    *("META_ARCHITECTURE", "BACKBONE.NAME", "RESNETS.DEPTH", "RESNETS.STEM_TYPE"),
    *("RESNETS.OUT_FEATURES", "SWIN.OUT_FEATURES"),
    *("SEM_SEG_HEAD.NAME", "SEM_SEG_HEAD.IN_FEATURES", "SEM_SEG_HEAD.PIXEL_DECODER_NAME"),
    "SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS",
    "SEM_SEG_HEAD.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES",
    *("MASK_FORMER.TEST.SEMANTIC_ON", "MASK_FORMER.TEST.INSTANCE_ON"),
    *("MASK_FORMER.TEST.PANOPTIC_ON", "MASK_FORMER.ENFORCE_INPUT_PROJ"),
    "MASK_FORMER.TEST.SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE",
)
# Keys of DeepLab, which nothing here reads.
IGNORED = (
    *("SEM_SEG_HEAD.LOSS_TYPE", "SEM_SEG_HEAD.PROJECT_FEATURES", "SEM_SEG_HEAD.PROJECT_CHANNELS"),
    *("SEM_SEG_HEAD.ASPP_CHANNELS", "SEM_SEG_HEAD.ASPP_DILATIONS", "SEM_SEG_HEAD.ASPP_DROPOUT"),
    "SEM_SEG_HEAD.USE_DEPTHWISE_SEPARABLE_CONV",
)
# Of the whole config: training, data and files.
OTHER_SECTIONS = ("SOLVER", "INPUT", "DATASETS", "DATALOADER", "OUTPUT_DIR", "VERSION", "SEED")
TRANSFORMER_DECODERS = ("StandardTransformerDecoder", "MultiScaleMaskedTransformerDecoder")


def check_settings(leaves: Settings, deformable: bool) -> None:
    """Refuse settings that have no counterpart here.

    Args:
        leaves: values by dotted paths.
        deformable: the case is one of Mask2Former.
    Raises:
        DataError: a setting is unknown, or has a value without a counterpart.
    """
    own = {name: value for name, value in leaves.items() if not _is_elsewhere(name)}
    fixed = _fixed(leaves, deformable)
    known = {f"MODEL.{name}" for name in (*KEYS, *READ, *IGNORED)}
    check_known("config.settings", own, {*known, *fixed, "TEST.DETECTIONS_PER_IMAGE"})
    for name, only in fixed.items():
        check_fixed(f"config.settings.{name}", own.get(name, only), only)


def _is_elsewhere(name: str) -> bool:
    """Return True for training and data, and for Swin, whose section checks its names itself."""
    return name.split(".")[0] in OTHER_SECTIONS or name.startswith("MODEL.SWIN.")


def _fixed(leaves: Settings, deformable: bool) -> Mapping[str, Any]:
    """Return the keys with one value here, in a case with these other values."""
    width, heads = leaves[f"{HEAD}.CONVS_DIM"], leaves.get(f"{MODEL}.NHEADS", 8)
    encoded = leaves.get(f"{HEAD}.PIXEL_DECODER_NAME") == "TransformerEncoderPixelDecoder"
    memory = "transformer_encoder" if encoded else leaves[f"{HEAD}.IN_FEATURES"][-1]
    fixed = {
        f"{HEAD}.COMMON_STRIDE": 4,
        f"{HEAD}.MASK_DIM": width,
        f"{HEAD}.DEFORMABLE_TRANSFORMER_ENCODER_N_HEADS": heads,
        f"{MODEL}.HIDDEN_DIM": width,
        f"{MODEL}.ENC_LAYERS": 0,
        f"{MODEL}.TRANSFORMER_IN_FEATURE": "multi_scale_pixel_decoder" if deformable else memory,
        f"{MODEL}.TRANSFORMER_DECODER_NAME": TRANSFORMER_DECODERS[deformable],
        "MODEL.RESNETS.RES4_DILATION": 1,
        "MODEL.RESNETS.RES5_DILATION": 1,
        "MODEL.RESNETS.RES5_MULTI_GRID": [1, 1, 1],
        "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False] * 4,
        "MODEL.RESNETS.DEFORM_MODULATED": False,
        "MODEL.RESNETS.DEFORM_NUM_GROUPS": 1,
    }
    # A projection is there anyway where the map is wider than the transformer.
    if deformable or encoded:
        fixed[f"{MODEL}.ENFORCE_INPUT_PROJ"] = False
    # Other tasks than the semantic one always resize first.
    if not any(leaves.get(f"{MODEL}.TEST.{task}_ON") for task in ("PANOPTIC", "INSTANCE")):
        fixed[f"{MODEL}.TEST.SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE"] = False
    return fixed
