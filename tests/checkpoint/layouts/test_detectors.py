"""Names of detectors; `tests/parity` has whole files of most."""

import torch

from d2ext.checkpoint.conversion import convert


def renamed(layout: str, *names: str) -> list[str]:
    found = convert({name: torch.zeros(1) for name in names})
    assert found.layout.name == layout
    return list(found.weights)


def test_parts_of_the_dynamic_head_get_our_names() -> None:
    prefix = "backbone.dyhead_tower.3."
    assert renamed(
        "DynamicHead",
        prefix + "offset.weight",
        prefix + "DyConv.0.conv.bias",
        prefix + "DyConv.1.bn.weight",
        prefix + "DyConv.2.conv.weight",
        prefix + "AttnConv.1.bias",
        prefix + "relu.fc.2.weight",
        "backbone.backbone.fpn_lateral3.weight",
        "head.scales.2.scale",
        "roi_heads.box_head.fc1.weight",
    ) == [
        "backbone.blocks.3.spatial.offset.weight",
        "backbone.blocks.3.spatial.coarser.bias",
        "backbone.blocks.3.spatial.same.norm.weight",
        "backbone.blocks.3.spatial.finer.weight",
        "backbone.blocks.3.scale.conv.bias",
        "backbone.blocks.3.task.fc2.weight",
        "backbone.backbone.fpn_lateral3.weight",
        "head.scales.2",
        "roi_heads.box_head.fc1.weight",
    ]


def test_an_atss_of_dynamic_head_without_one_is_recognised() -> None:
    names = ("backbone.fpn_lateral3.weight", "head.scales.0.scale", "head.cls_logits.bias")
    assert renamed("DynamicHead", *names) == [names[0], "head.scales.0", names[2]]


def test_parts_of_fcos_get_our_names() -> None:
    prefix = "proposal_generator.fcos_head."
    assert renamed(
        "AdelaiDet FCOS",
        "backbone.top_block.p6.weight",
        prefix + "cls_tower.3.weight",
        prefix + "bbox_tower.10.bias",
        prefix + "cls_logits.weight",
        prefix + "bbox_pred.bias",
        prefix + "ctrness.weight",
        prefix + "scales.4.scale",
    ) == [
        "backbone.top_block.p6.weight",
        "head.cls_tower.3.weight",
        "head.bbox_tower.10.bias",
        "head.cls_logits.weight",
        "head.bbox_pred.bias",
        "head.quality.weight",
        "head.scales.4",
    ]


def test_files_of_detectron2s_zoo_keep_their_names() -> None:
    names = ["backbone.bottom_up.res2.0.conv1.weight", "proposal_generator.rpn_head.conv.bias"]
    names += ["roi_heads.box_predictor.cls_score.weight", "head.cls_subnet.0.weight"]
    unused = ["pixel_mean", "pixel_std", "proposal_generator.anchor_generator.cell_anchors.0"]
    assert renamed("Detectron2", *names, *unused) == names
    assert renamed("Detectron2", "backbone.res4.0.conv1.weight", "backbone.stem.conv1.weight")
