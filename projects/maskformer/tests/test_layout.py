"""Checkpoints of early and late versions of both code bases load."""

import pytest
import torch

from d2ext.checkpoint.conversion import convert
from d2ext.checkpoint.layouts import Layout
from d2ext.projects.maskformer.layout import MASK2FORMER, MASKFORMER

PIXEL_DECODER = {
    "adapter_1.weight": "pixel_decoder.pyramid.laterals.0.weight",
    "adapter_3.norm.bias": "pixel_decoder.pyramid.laterals.2.norm.bias",
    "layer_2.weight": "pixel_decoder.pyramid.outputs.1.weight",
    "layer_4.norm.weight": "pixel_decoder.coarsest.norm.weight",
    "mask_features.weight": "pixel_decoder.embedding.weight",
    "input_proj.weight": "pixel_decoder.input_proj.weight",
    "transformer.encoder.layers.5.linear1.bias": (
        "pixel_decoder.encoder.layers.5.feed_forward.linear1.bias"
    ),
    "transformer.encoder.layers.0.self_attn.in_proj_weight": (
        "pixel_decoder.encoder.layers.0.self_attn.in_proj_weight"
    ),
    "transformer.level_embed": "pixel_decoder.level_embed",
}
MASKFORMER_PREDICTOR = {
    "query_embed.weight": "query_embed.weight",
    "transformer.decoder.norm.weight": "decoder.norm.weight",
    "transformer.decoder.layers.1.linear2.weight": "decoder.layers.1.feed_forward.linear2.weight",
    "class_embed.bias": "class_embed.bias",
    "mask_embed.layers.2.weight": "mask_embed.layers.2.weight",
}
MASK2FORMER_PREDICTOR = {
    "static_query.weight": "query_feat.weight",
    "level_embed.weight": "level_embed.weight",
    "decoder_norm.bias": "norm.bias",
    "transformer_cross_attention_layers.0.multihead_attn.in_proj_bias": (
        "layers.0.cross_attn.in_proj_bias"
    ),
    "transformer_cross_attention_layers.8.norm.weight": "layers.8.norm1.weight",
    "transformer_self_attention_layers.3.self_attn.out_proj.weight": (
        "layers.3.self_attn.out_proj.weight"
    ),
    "transformer_self_attention_layers.3.norm.weight": "layers.3.norm2.weight",
    "transformer_ffn_layers.4.linear1.weight": "layers.4.feed_forward.linear1.weight",
    "transformer_ffn_layers.4.norm.weight": "layers.4.norm3.weight",
}


@pytest.mark.parametrize("prefix", ["pixel_decoder.", ""])
@pytest.mark.parametrize(
    ("layout", "predictor"),
    [(MASKFORMER, MASKFORMER_PREDICTOR), (MASK2FORMER, MASK2FORMER_PREDICTOR)],
)
def test_published_names_become_ours(prefix: str, layout: Layout, predictor: dict[str, str]):
    names = {f"sem_seg_head.{prefix}{theirs}": ours for theirs, ours in PIXEL_DECODER.items()}
    for theirs, ours in predictor.items():
        names[f"sem_seg_head.predictor.{theirs}"] = f"predictor.{ours}"
    names["backbone.res2.0.conv1.weight"] = "backbone.res2.0.conv1.weight"
    weights = {name: torch.tensor(float(i)) for i, name in enumerate(names)}
    weights["criterion.empty_weight"] = torch.ones(3)
    found = convert(weights)
    assert found.layout is layout
    assert found.weights == {ours: weights[theirs] for theirs, ours in names.items()}
    assert found.unused == ["criterion.empty_weight"]
