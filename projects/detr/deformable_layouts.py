"""The layouts of the checkpoints of Deformable DETR, DAB-Deformable-DETR and DINO.

Sources: https://github.com/fundamentalvision/Deformable-DETR,
https://github.com/IDEA-Research/DAB-DETR, https://github.com/IDEA-Research/DINO,
https://github.com/IDEA-Research/detrex
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from d2ext.checkpoint.layouts.layout import IMAGENET_RGB, Layout, Renaming, Weights, has
from d2ext.projects.detr.coco_classes import select_coco_rows
from d2ext.projects.detr.single_scale_layouts import COMMON

_SAMPLING = r"transformer\.decoder\.layers\.0\.cross_attn\.sampling_offsets\.weight"
_EXPECTS = f"{IMAGENET_RGB}, MODEL.RESNETS.STRIDE_IN_1X1 False"
# Files have the heads that the decoder shares with the model twice.
_TWICE = (r"transformer\.decoder\.(bbox|class)_embed\..*",)

_DEFORMABLE: tuple[Renaming, ...] = (
    *COMMON,
    (r"^backbone\.0\.", "backbone."),  # Swin
    (r"^(input_proj\.|level_embed$)", r"levels.\1"),
    (r"^decoder\.(ref_point_head|query_scale)\.", r"decoder.anchor_position.\1."),
    (r"^(enc_output(_norm)?)\.", r"proposals.\1."),
)


def _recognise_deformable(weights: Weights) -> bool:
    queries = has(weights, r"query_embed\.weight") or has(weights, r"transformer\.pos_trans\..*")
    return has(weights, _SAMPLING) and queries


def _recognise_dab(weights: Weights) -> bool:
    return has(weights, _SAMPLING, r"refpoint_embed\.weight", r"tgt_embed\.weight")


def _recognise_dino(weights: Weights) -> bool:
    return has(weights, _SAMPLING, r"transformer\.enc_out_class_embed\.weight")


def _official(name: str, architecture: str, recognise: Callable[[Weights], bool]) -> Layout:
    """Return a layout of the code bases that continue Deformable DETR's names."""
    return Layout(
        name=name,
        architecture=architecture,
        recognise=recognise,
        renamings=_DEFORMABLE,
        unused=_TWICE,
        expects=_EXPECTS,
        select_rows=select_coco_rows,
    )


DEFORMABLE_DETR = _official("Deformable DETR", "DeformableDETR", _recognise_deformable)
DAB_DEFORMABLE_DETR = _official("DAB-Deformable-DETR", "DABDeformableDETR", _recognise_dab)
DINO = _official("DINO", "DINO", _recognise_dino)


def _recognise_detrex(weights: Weights, num_maps: int) -> bool:
    attention = r"transformer\.decoder\.layers\.0\.attentions\.1\.sampling_offsets\.weight"
    last, next_map = (rf"neck\.convs\.{i}\.conv\.weight" for i in (num_maps - 1, num_maps))
    return has(weights, attention, r"label_enc\.weight", last) and not has(weights, next_map)


def _with_unused_label(weights: Weights) -> dict[str, Tensor]:
    """Add the row that the authors' table of labels has more, and nobody reads."""
    return {"label_enc.weight": F.pad(weights["label_enc.weight"], (0, 0, 0, 1))}


def _detrex_dino(num_maps: int) -> Layout:
    """Return the layout of detrex's DINO on `num_maps` feature maps and one level more."""
    extra = f"levels.input_proj.{num_maps}."
    return Layout(
        name=f"detrex DINO ({num_maps + 1} scales)",
        architecture="DINO",
        recognise=lambda weights: _recognise_detrex(weights, num_maps),
        renamings=(
            (r"^neck\.convs\.(\d+)\.conv\.", r"levels.input_proj.\1.0."),
            (r"^neck\.convs\.(\d+)\.norm\.", r"levels.input_proj.\1.1."),
            (r"^neck\.extra_convs\.0\.conv\.", f"{extra}0."),
            (r"^neck\.extra_convs\.0\.norm\.", f"{extra}1."),
            (r"^transformer\.level_embeds$", "levels.level_embed"),
            (r"^transformer\.", ""),
            (r"^(enc_output(_norm)?)\.", r"proposals.\1."),
            (r"^decoder\.ref_point_head\.", "decoder.anchor_position.ref_point_head."),
            (r"\.attentions\.0\.attn\.", ".self_attn."),
            (r"^encoder\.layers\.(\d+)\.attentions\.0\.", r"encoder.layers.\1.self_attn."),
            (r"\.attentions\.1\.", ".cross_attn."),
            (r"\.ffns\.0\.layers\.0\.0\.", ".feed_forward.linear1."),
            (r"\.ffns\.0\.layers\.1\.", ".feed_forward.linear2."),
            (r"^encoder\.layers\.(\d+)\.norms\.0\.", r"encoder.layers.\1.norm1."),
            (r"^encoder\.layers\.(\d+)\.norms\.1\.", r"encoder.layers.\1.norm2."),
            (r"^decoder\.layers\.(\d+)\.norms\.0\.", r"decoder.layers.\1.norm2."),
            (r"^decoder\.layers\.(\d+)\.norms\.1\.", r"decoder.layers.\1.norm1."),
            (r"^decoder\.layers\.(\d+)\.norms\.2\.", r"decoder.layers.\1.norm3."),
            (r"^(class|bbox)_embed\.6\.", r"enc_out_\1_embed."),  # all have six decoder layers
        ),
        unused=_TWICE,
        computed=_with_unused_label,
        expects=(
            f"{_EXPECTS}, MODEL.DINO.SHARE_HEADS False, "
            "MODEL.DINO.MASK_PADDING_TEST False, MODEL.DETR.POSITION.TEMPERATURE [10000, 10000], "
            "MODEL.DETR.POSITION.HALF_PIXEL True"
        ),
    )


DETREX_DINO_4SCALE, DETREX_DINO_5SCALE = _detrex_dino(3), _detrex_dino(4)

ALL = (DEFORMABLE_DETR, DAB_DEFORMABLE_DETR, DINO, DETREX_DINO_4SCALE, DETREX_DINO_5SCALE)
