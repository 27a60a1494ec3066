import torch

from d2ext.checkpoint import convert_official


def convert(*names: str, ours: tuple[str, ...] = ()) -> list[str]:
    return list(convert_official({name: torch.zeros(1) for name in names}, ours))


def test_parts_of_the_dynamic_head_get_our_names():
    prefix = "backbone.dyhead_tower.3."
    assert convert(
        prefix + "offset.weight",
        prefix + "DyConv.0.conv.bias",
        prefix + "DyConv.1.bn.weight",
        prefix + "DyConv.2.conv.weight",
        prefix + "AttnConv.1.bias",
        prefix + "relu.fc.2.weight",
        "backbone.backbone.fpn_lateral3.weight",
        "head.scales.2.scale",
    ) == [
        "backbone.blocks.3.spatial.offset.weight",
        "backbone.blocks.3.spatial.coarser.bias",
        "backbone.blocks.3.spatial.same.norm.weight",
        "backbone.blocks.3.spatial.finer.weight",
        "backbone.blocks.3.scale.conv.bias",
        "backbone.blocks.3.task.fc2.weight",
        "backbone.backbone.fpn_lateral3.weight",
        "head.scales.2",
    ]


def test_a_bare_swin_loses_its_classifier_and_what_is_computed():
    block = "layers.0.blocks.1.attn."
    names = convert(
        "patch_embed.proj.weight",
        block + "relative_position_index",
        "layers.0.blocks.1.attn_mask",
        block + "qkv.weight",
        "norm.weight",
        "head.bias",
    )
    assert names == ["patch_embed.proj.weight", block + "qkv.weight"]


def test_a_bare_swin_finds_its_place_in_a_detector():
    place = "backbone.backbone.bottom_up."
    names = convert(
        "patch_embed.proj.weight",
        "layers.0.blocks.0.norm1.weight",
        ours=(place + "patch_embed.proj.weight", "head.cls_logits.bias"),
    )
    assert names == [place + "patch_embed.proj.weight", place + "layers.0.blocks.0.norm1.weight"]


def test_other_checkpoints_stay_as_they_are():
    names = ("backbone.blocks.0.spatial.offset.weight", "head.cls_logits.weight")
    assert convert(*names) == list(names)
