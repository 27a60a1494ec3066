"""Names of maskrcnn-benchmark's files, and the order of their classes."""

import torch

from d2ext.checkpoint.conversion import convert

FPN = {
    "module.backbone.body.stem.conv1.weight": "backbone.bottom_up.stem.conv1.weight",
    "module.backbone.body.stem.bn1.running_var": "backbone.bottom_up.stem.conv1.norm.running_var",
    "module.backbone.body.layer1.0.downsample.0.weight": (
        "backbone.bottom_up.res2.0.shortcut.weight"
    ),
    "module.backbone.body.layer1.0.downsample.1.bias": (
        "backbone.bottom_up.res2.0.shortcut.norm.bias"
    ),
    "module.backbone.body.layer4.2.bn3.weight": "backbone.bottom_up.res5.2.conv3.norm.weight",
    "module.backbone.body.layer3.5.conv2.offset.weight": (
        "backbone.bottom_up.res4.5.conv2_offset.weight"
    ),
    "module.backbone.body.layer3.5.conv2.conv.weight": "backbone.bottom_up.res4.5.conv2.weight",
    "module.backbone.fpn.fpn_inner1.weight": "backbone.fpn_lateral2.weight",
    "module.backbone.fpn.fpn_layer4.bias": "backbone.fpn_output5.bias",
    "module.rpn.head.conv.weight": "proposal_generator.rpn_head.conv.weight",
    "module.rpn.head.cls_logits.weight": "proposal_generator.rpn_head.objectness_logits.weight",
    "module.rpn.head.bbox_pred.bias": "proposal_generator.rpn_head.anchor_deltas.bias",
    "module.roi_heads.box.feature_extractor.fc7.weight": "roi_heads.box_head.fc2.weight",
    "module.roi_heads.mask.feature_extractor.mask_fcn4.bias": "roi_heads.mask_head.mask_fcn4.bias",
    "module.roi_heads.mask.predictor.conv5_mask.weight": "roi_heads.mask_head.deconv.weight",
    "module.roi_heads.keypoint.feature_extractor.conv_fcn8.bias": (
        "roi_heads.keypoint_head.conv_fcn8.bias"
    ),
    "module.roi_heads.keypoint.predictor.kps_score_lowres.bias": (
        "roi_heads.keypoint_head.score_lowres.bias"
    ),
}
GROUP_NORMS = {
    "backbone.fpn.fpn_inner2.0.weight": "backbone.fpn_lateral3.weight",
    "backbone.fpn.fpn_inner2.1.weight": "backbone.fpn_lateral3.norm.weight",
    "roi_heads.box.feature_extractor.xconvs.3.weight": "roi_heads.box_head.conv2.weight",
    "roi_heads.box.feature_extractor.xconvs.4.bias": "roi_heads.box_head.conv2.norm.bias",
    "roi_heads.mask.feature_extractor.mask_fcn1.0.weight": "roi_heads.mask_head.mask_fcn1.weight",
    "roi_heads.mask.feature_extractor.mask_fcn1.1.bias": "roi_heads.mask_head.mask_fcn1.norm.bias",
}
C4 = {
    "backbone.body.stem.conv1.weight": "backbone.stem.conv1.weight",
    "backbone.body.layer3.5.conv1.weight": "backbone.res4.5.conv1.weight",
    "rpn.head.conv.bias": "proposal_generator.rpn_head.conv.bias",
    "roi_heads.box.feature_extractor.head.layer4.0.downsample.0.weight": (
        "roi_heads.res5.0.shortcut.weight"
    ),
    "roi_heads.box.feature_extractor.head.layer4.2.bn1.bias": "roi_heads.res5.2.conv1.norm.bias",
}
UNUSED = "rpn.anchor_generator.cell_anchors.0"


def check(names: dict[str, str], layout: str) -> None:
    found = convert({name: torch.zeros(1) for name in [*names, UNUSED]})
    assert found.layout.name == layout
    assert list(found.weights) == list(names.values())
    assert found.unused == [UNUSED]


def test_parts_of_a_pyramid_get_our_names() -> None:
    check(FPN, "maskrcnn-benchmark FPN")


def test_group_norms_get_our_names() -> None:
    stem = {"backbone.body.stem.conv1.weight": "backbone.bottom_up.stem.conv1.weight"}
    rpn = {"rpn.head.conv.bias": "proposal_generator.rpn_head.conv.bias"}
    check(stem | rpn | GROUP_NORMS, "maskrcnn-benchmark FPN")


def test_the_last_stage_of_c4_is_in_the_head() -> None:
    check(C4, "maskrcnn-benchmark C4")


def test_the_background_moves_from_the_first_class_to_the_last() -> None:
    rows = torch.arange(4.0)
    weights = {
        **{name: torch.zeros(1) for name in C4},
        "roi_heads.box.predictor.cls_score.bias": rows,
        "roi_heads.box.predictor.bbox_pred.bias": rows.repeat_interleave(4),
        "roi_heads.mask.predictor.mask_fcn_logits.bias": rows,
    }
    found = convert(weights).weights
    assert found["roi_heads.box_predictor.cls_score.bias"].tolist() == [1, 2, 3, 0]
    assert found["roi_heads.box_predictor.bbox_pred.bias"][::4].tolist() == [1, 2, 3]
    assert found["roi_heads.mask_head.predictor.bias"].tolist() == [1, 2, 3]


RETINANET = {
    "module.backbone.body.stem.conv1.weight": "backbone.bottom_up.stem.conv1.weight",
    "module.backbone.body.layer4.2.bn3.weight": "backbone.bottom_up.res5.2.conv3.norm.weight",
    "module.backbone.fpn.fpn_inner2.weight": "backbone.fpn_lateral3.weight",
    "module.backbone.fpn.fpn_layer4.bias": "backbone.fpn_output5.bias",
    "module.backbone.fpn.top_blocks.p6.weight": "backbone.top_block.p6.weight",
    "module.rpn.head.cls_tower.0.weight": "head.cls_subnet.0.weight",
    "module.rpn.head.bbox_tower.6.bias": "head.bbox_subnet.6.bias",
}


def test_the_anchors_of_retinanet_move_from_ratios_to_sizes() -> None:
    anchors = torch.arange(6)  # two sizes of the first ratio, then of the others
    deltas = torch.repeat_interleave(anchors, 4).float()
    scores = torch.stack((10 * anchors, 10 * anchors + 1), dim=1).flatten().float()
    predictors = {f"module.rpn.head.bbox_pred.{kind}": deltas for kind in ("weight", "bias")}
    predictors |= {f"module.rpn.head.cls_logits.{kind}": scores for kind in ("weight", "bias")}
    found = convert({name: torch.zeros(1) for name in [*RETINANET, UNUSED]} | predictors)
    assert found.layout.name == "maskrcnn-benchmark RetinaNet"
    assert set(RETINANET.values()) < set(found.weights)
    assert found.weights["head.bbox_pred.bias"].tolist()[::4] == [0, 2, 4, 1, 3, 5]
    assert found.weights["head.cls_score.weight"].tolist()[::2] == [0, 20, 40, 10, 30, 50]
    assert found.weights["head.cls_score.bias"].tolist()[1::2] == [1, 21, 41, 11, 31, 51]
    assert "BBOX_REG_WEIGHTS [10.0, 10.0, 5.0, 5.0]" in found.layout.expects
