"""The layouts of the checkpoints of MaskFormer and Mask2Former.

Sources: https://github.com/facebookresearch/MaskFormer (names only, from its published weights),
https://github.com/facebookresearch/Mask2Former
"""

import re

from d2ext.checkpoint.layouts import register_layout
from d2ext.checkpoint.layouts.layout import IMAGENET_RGB, Layout, Renaming, Weights, has

_HEAD = r"sem_seg_head\."
_EXPECTS = f"{IMAGENET_RGB}, MODEL.RESNETS.STRIDE_IN_1X1 False"


def _pyramid(found: re.Match[str]) -> str:
    """Rename a level of the pyramid: published ones count from 1, lists from 0."""
    kinds = {"adapter": "laterals", "layer": "outputs"}
    return f"pixel_decoder.pyramid.{kinds[found[1]]}.{int(found[2]) - 1}."


# Early checkpoints name the parts of the pixel decoder without "pixel_decoder.".
_PIXEL_DECODER: tuple[Renaming, ...] = (
    (rf"^{_HEAD}(?!predictor\.|pixel_decoder\.)", "sem_seg_head.pixel_decoder."),
    (rf"^{_HEAD}", ""),
    (r"^pixel_decoder\.layer_4\.", "pixel_decoder.coarsest."),
    (r"^pixel_decoder\.(adapter|layer)_(\d)\.", _pyramid),
    (r"^pixel_decoder\.mask_features\.", "pixel_decoder.embedding."),
    (r"^pixel_decoder\.transformer\.", "pixel_decoder."),
    (
        r"^(pixel_decoder\.encoder|predictor\.(?:transformer\.)?decoder)\.layers\.(\d+)\.(linear[12])\.",
        r"\1.layers.\2.feed_forward.\3.",
    ),
    (r"^predictor\.transformer\.", "predictor."),
)
_KINDS = {"cross": "cross_attn", "self": "self_attn"}
_NORMS = {"cross": "norm1", "self": "norm2", "ffn": "norm3"}


def _attention(found: re.Match[str]) -> str:
    part = _NORMS[found[1]] if found[3] == "norm" else _KINDS[found[1]]
    return f"predictor.layers.{found[2]}.{part}."


def _feed_forward(found: re.Match[str]) -> str:
    part = _NORMS["ffn"] if found[2] == "norm" else f"feed_forward.{found[2]}"
    return f"predictor.layers.{found[1]}.{part}."


def _recognise_maskformer(weights: Weights) -> bool:
    return has(weights, rf"{_HEAD}(pixel_decoder\.)?mask_features\.weight") and not (
        _recognise_mask2former(weights)
    )


def _recognise_mask2former(weights: Weights) -> bool:
    return has(weights, rf"{_HEAD}predictor\.transformer_cross_attention_layers\.0\..*")


MASKFORMER = register_layout(
    Layout(
        name="MaskFormer",
        recognise=_recognise_maskformer,
        renamings=_PIXEL_DECODER,
        unused=(r"criterion\.empty_weight",),  # follows from the config
        expects=_EXPECTS,
    )
)

MASK2FORMER = register_layout(
    Layout(
        name="Mask2Former",
        recognise=_recognise_mask2former,
        renamings=(
            *_PIXEL_DECODER,
            (r"^predictor\.static_query\.", "predictor.query_feat."),  # of early checkpoints
            (r"^predictor\.decoder_norm\.", "predictor.norm."),
            (
                r"^predictor\.transformer_(cross|self)_attention_layers\.(\d+)\."
                r"(multihead_attn|self_attn|norm)\.",
                _attention,
            ),
            (
                r"^predictor\.transformer_ffn_layers\.(\d+)\.(linear[12]|norm)\.",
                _feed_forward,
            ),
        ),
        unused=(r"criterion\.empty_weight",),
        expects=_EXPECTS,
    )
)
