"""Names of Detectron's .pkl files, and the order of their classes."""

import torch

from d2ext.checkpoint.conversion import convert

RPN, HEADS = "proposal_generator.rpn_head", "roi_heads"
SHARED = {
    "cls_score_w": f"{HEADS}.box_predictor.cls_score.weight",
    "cls_score_b": f"{HEADS}.box_predictor.cls_score.bias",
    "bbox_pred_w": f"{HEADS}.box_predictor.bbox_pred.weight",
    "bbox_pred_b": f"{HEADS}.box_predictor.bbox_pred.bias",
    "conv5_mask_w": f"{HEADS}.mask_head.deconv.weight",
    "mask_fcn_logits_w": f"{HEADS}.mask_head.predictor.weight",
    "mask_fcn_logits_b": f"{HEADS}.mask_head.predictor.bias",
}
FPN = SHARED | {
    "conv1_w": "backbone.bottom_up.stem.conv1.weight",
    "res_conv1_bn_s": "backbone.bottom_up.stem.conv1.norm.weight",
    "res2_0_branch2a_w": "backbone.bottom_up.res2.0.conv1.weight",
    "res4_22_branch2c_bn_b": "backbone.bottom_up.res4.22.conv3.norm.bias",
    "fpn_inner_res5_2_sum_w": "backbone.fpn_lateral5.weight",
    "fpn_inner_res4_22_sum_lateral_b": "backbone.fpn_lateral4.bias",
    "fpn_inner_res3_3_sum_lateral_gn_s": "backbone.fpn_lateral3.norm.weight",
    "fpn_res2_2_sum_w": "backbone.fpn_output2.weight",
    "conv_rpn_fpn2_w": f"{RPN}.conv.weight",
    "rpn_cls_logits_fpn2_b": f"{RPN}.objectness_logits.bias",
    "rpn_bbox_pred_fpn2_w": f"{RPN}.anchor_deltas.weight",
    "fc6_w": f"{HEADS}.box_head.fc1.weight",
    "fc7_b": f"{HEADS}.box_head.fc2.bias",
    "head_conv4_w": f"{HEADS}.box_head.conv4.weight",
    "head_conv4_gn_b": f"{HEADS}.box_head.conv4.norm.bias",
    "_[mask]_fcn3_w": f"{HEADS}.mask_head.mask_fcn3.weight",
    "_[mask]_fcn3_gn_s": f"{HEADS}.mask_head.mask_fcn3.norm.weight",
    "conv_fcn8_w": f"{HEADS}.keypoint_head.conv_fcn8.weight",
    "kps_score_lowres_b": f"{HEADS}.keypoint_head.score_lowres.bias",
}
C4 = SHARED | {
    "conv1_w": "backbone.stem.conv1.weight",
    "res2_0_branch2a_w": "backbone.res2.0.conv1.weight",
    "res4_5_branch2b_bn_s": "backbone.res4.5.conv2.norm.weight",
    "res5_0_branch1_w": f"{HEADS}.res5.0.shortcut.weight",
    "res5_0_branch1_bn_s": f"{HEADS}.res5.0.shortcut.norm.weight",
    "conv_rpn_w": f"{RPN}.conv.weight",
    "rpn_cls_logits_w": f"{RPN}.objectness_logits.weight",
    "rpn_bbox_pred_b": f"{RPN}.anchor_deltas.bias",
}
UNUSED = ("conv1_w_momentum", "lr", "conv1_b", "kps_score_w")


def check(names: dict[str, str], layout: str, norms: list[str]) -> None:
    found = convert({name: torch.ones(8) for name in [*names, *UNUSED]})
    assert found.layout.name == layout
    statistics = {f"{norm}.{kind}" for norm in norms for kind in ("running_mean", "running_var")}
    assert set(found.weights) == set(names.values()) | statistics
    assert found.unused == list(UNUSED)


def test_parts_of_a_pyramid_get_our_names() -> None:
    check(FPN, "Detectron FPN", ["backbone.bottom_up.stem.conv1.norm"])


def test_the_last_stage_of_c4_is_in_the_head() -> None:
    norms = ["backbone.res4.5.conv2.norm", "roi_heads.res5.0.shortcut.norm"]
    check(C4, "Detectron C4", norms)


def test_the_background_moves_from_the_first_class_to_the_last() -> None:
    rows = torch.arange(4.0)
    weights = {name: torch.zeros(8) for name in C4}
    weights |= {"cls_score_b": rows, "mask_fcn_logits_b": rows}
    weights |= {"bbox_pred_b": rows.repeat_interleave(4)}
    found = convert(weights).weights
    assert found["roi_heads.box_predictor.cls_score.bias"].tolist() == [1, 2, 3, 0]
    assert found["roi_heads.box_predictor.bbox_pred.bias"][::4].tolist() == [1, 2, 3]
    assert found["roi_heads.mask_head.predictor.bias"].tolist() == [1, 2, 3]


RETINANET = {
    "conv1_w": "backbone.bottom_up.stem.conv1.weight",
    "res2_0_branch2a_w": "backbone.bottom_up.res2.0.conv1.weight",
    "fpn_inner_res5_2_sum_w": "backbone.fpn_lateral5.weight",
    "fpn_res3_3_sum_b": "backbone.fpn_output3.bias",
    "fpn_6_w": "backbone.top_block.p6.weight",
    "fpn_7_b": "backbone.top_block.p7.bias",
    "retnet_cls_conv_n0_fpn3_w": "head.cls_subnet.0.weight",
    "retnet_cls_conv_n3_fpn3_b": "head.cls_subnet.6.bias",
    "retnet_bbox_conv_n1_fpn3_w": "head.bbox_subnet.2.weight",
    "retnet_cls_pred_fpn3_w": "head.cls_score.weight",
    "retnet_bbox_pred_fpn3_b": "head.bbox_pred.bias",
}


def test_retinanet_gets_our_names() -> None:
    check(RETINANET, "Detectron RetinaNet", [])
