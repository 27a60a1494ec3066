"""The layouts of the checkpoints of DETR, Conditional DETR and DAB-DETR.

Sources: https://github.com/facebookresearch/detr, https://github.com/Atten4Vis/ConditionalDETR,
https://github.com/IDEA-Research/DAB-DETR
"""

import re

from d2ext.checkpoint.layouts.layout import IMAGENET_RGB, Layout, Renaming, Weights, has
from d2ext.checkpoint.layouts.torchvision_resnet import TORCHVISION_RESNET
from d2ext.projects.detr.coco_classes import select_coco_rows

_LAYERS = r"^(encoder|decoder)\.layers\.(\d+)\."
_EXPECTS = f"{IMAGENET_RGB}, MODEL.RESNETS.STRIDE_IN_1X1 False"


def _in_backbone(renaming: Renaming) -> Renaming:
    """Apply a renaming of torchvision's ResNet behind the prefix that it has here."""
    pattern, replacement = renaming
    return pattern.replace("^", r"(?<=^backbone\.)"), replacement


def _mask_layer(found: re.Match[str]) -> str:
    """Rename numbered layers of the mask head: they count from 1, lists from 0."""
    kinds = {"lay": "convs", "gn": "norms", "adapter": "adapters"}
    return f"mask_head.{kinds[found[1]]}.{int(found[2]) - 1}."


# Names that all models of the family share.
COMMON: tuple[Renaming, ...] = (
    (r"^detr\.", ""),  # of models with a mask head
    (r"^backbone\.0\.body\.", "backbone."),
    *map(_in_backbone, TORCHVISION_RESNET.renamings),
    (r"^transformer\.", ""),
    (_LAYERS + r"(linear[12]|activation)\.", r"\1.layers.\2.feed_forward.\3."),
    (r"^bbox_attention\.", "mask_head.attention."),
    (r"^mask_head\.out_lay\.", "mask_head.predictor."),
    (r"^mask_head\.(lay|gn|adapter)(\d)\.", _mask_layer),
)

_CONDITIONAL: tuple[Renaming, ...] = (
    *COMMON,
    (_LAYERS + r"sa_qcontent_proj\.", r"\1.layers.\2.self_attn.query_content."),
    (_LAYERS + r"sa_qpos_proj\.", r"\1.layers.\2.self_attn.query_position."),
    (_LAYERS + r"sa_kcontent_proj\.", r"\1.layers.\2.self_attn.key_content."),
    (_LAYERS + r"sa_kpos_proj\.", r"\1.layers.\2.self_attn.key_position."),
    (_LAYERS + r"sa_v_proj\.", r"\1.layers.\2.self_attn.value."),
    (_LAYERS + r"ca_qcontent_proj\.", r"\1.layers.\2.cross_attn.query_content."),
    (_LAYERS + r"ca_qpos_proj\.", r"\1.layers.\2.cross_attn.query_position."),
    (_LAYERS + r"ca_kcontent_proj\.", r"\1.layers.\2.cross_attn.key_content."),
    (_LAYERS + r"ca_kpos_proj\.", r"\1.layers.\2.cross_attn.key_position."),
    (_LAYERS + r"ca_v_proj\.", r"\1.layers.\2.cross_attn.value."),
    (_LAYERS + r"ca_qpos_sine_proj\.", r"\1.layers.\2.cross_attn.query_sine."),
)


def _recognise_detr(weights: Weights) -> bool:
    return has(weights, r"(detr\.)?transformer\.decoder\.layers\.0\.multihead_attn\.in_proj_weight")


def _recognise_conditional(weights: Weights) -> bool:
    conditional = r"(detr\.)?transformer\.decoder\.layers\.0\.ca_qpos_sine_proj\.weight"
    return has(weights, conditional) and not _recognise_dab(weights)


def _recognise_dab(weights: Weights) -> bool:
    return has(weights, r"(detr\.)?transformer\.decoder\.ref_anchor_head\.layers\.0\.weight")


DETR = Layout(
    name="DETR",
    architecture="DETR",
    recognise=_recognise_detr,
    renamings=COMMON,
    expects=_EXPECTS,
    select_rows=select_coco_rows,
)

CONDITIONAL_DETR = Layout(
    name="Conditional DETR",
    architecture="ConditionalDETR",
    recognise=_recognise_conditional,
    renamings=_CONDITIONAL,
    expects=_EXPECTS,
    select_rows=select_coco_rows,
)

DAB_DETR = Layout(
    name="DAB-DETR",
    architecture="DABDETR",
    recognise=_recognise_dab,
    renamings=(
        *_CONDITIONAL,
        (r"^encoder\.query_scale\.", "encoder.position_scale."),
    ),
    # The box head that the decoder refines anchors by is that of the model.
    unused=(r"(detr\.)?transformer\.decoder\.bbox_embed\..*",),
    expects=_EXPECTS,
    select_rows=select_coco_rows,
)

ALL = (DETR, CONDITIONAL_DETR, DAB_DETR)
