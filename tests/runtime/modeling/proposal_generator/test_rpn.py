"""The region proposal network: head, labels, losses, and proposals."""

import math

import pytest
import torch

import d2ext  # noqa: F401
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_proposal_generator
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.proposal_generator import RPN, StandardRPNHead
from detectron2.modeling.proposal_generator.proposal_utils import (
    add_ground_truth_to_proposals,
    find_top_rpn_proposals,
)
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import EventStorage

ANCHORS = [Boxes(torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 4], [20, 20, 28, 28], [-6, 0, 2, 8]]))]


def truth(*boxes: list[float]) -> Instances:
    return Instances((32, 32), gt_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)))


def network(**options) -> RPN:
    settings = {
        "in_features": ["p3"],
        "head": StandardRPNHead(in_channels=4, num_anchors=1),
        "anchor_generator": DefaultAnchorGenerator(sizes=[8], aspect_ratios=[1.0], strides=[8]),
        "anchor_matcher": Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True),
        "box2box_transform": Box2BoxTransform(weights=(1, 1, 1, 1)),
        "batch_size_per_image": 10,
        "positive_fraction": 0.5,
        "pre_nms_topk": (9, 5),
        "post_nms_topk": (4, 2),
    }
    return RPN(**{**settings, **options})


def top(boxes: list[list[float]], logits: list[float], **options) -> Instances:
    settings = {
        "image_sizes": [(32, 32)],
        "nms_thresh": 0.5,
        "pre_nms_topk": 10,
        "post_nms_topk": 10,
        "min_box_size": 0,
        "training": False,
    }
    proposals, scores = [torch.tensor([boxes])], [torch.tensor([logits])]
    (found,) = find_top_rpn_proposals(proposals, scores, **{**settings, **options})
    return found


def test_a_head_of_one_convolution_has_the_older_state_dict_name():
    names = {name for name, _ in StandardRPNHead(in_channels=4, num_anchors=3).named_parameters()}
    parts = ("conv", "objectness_logits", "anchor_deltas")
    assert names == {f"{part}.{kind}" for part in parts for kind in ("weight", "bias")}


def test_conv_dims_of_minus_one_follow_the_input():
    head = StandardRPNHead(in_channels=4, num_anchors=3, box_dim=5, conv_dims=[6, -1])
    assert [conv.out_channels for conv in head.conv] == [6, 6]
    logits, deltas = head([torch.zeros(2, 4, 5, 7), torch.zeros(2, 4, 3, 4)])
    assert [tuple(x.shape) for x in logits] == [(2, 3, 5, 7), (2, 3, 3, 4)]
    assert [tuple(x.shape) for x in deltas] == [(2, 15, 5, 7), (2, 15, 3, 4)]


def test_precomputed_proposals_have_no_generator():
    cfg = get_cfg()
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "PrecomputedProposals"
    assert build_proposal_generator(cfg, {"res4": ShapeSpec(channels=4, stride=16)}) is None


def test_the_config_defines_the_number_of_proposals_by_mode():
    cfg = get_cfg()
    cfg.MODEL.RPN.LOSS_WEIGHT, cfg.MODEL.RPN.BBOX_REG_LOSS_WEIGHT = 2.0, 3.0
    rpn = build_proposal_generator(cfg, {"res4": ShapeSpec(channels=4, stride=16)})
    assert rpn.pre_nms_topk == {True: 12000, False: 6000}
    assert rpn.post_nms_topk == {True: 2000, False: 1000}
    assert rpn.loss_weight == {"loss_rpn_cls": 2.0, "loss_rpn_loc": 6.0}


def test_anchors_are_objects_background_or_ignored():
    labels, boxes = network().label_and_sample_anchors(ANCHORS, [truth([0, 0, 8, 8])])
    assert labels[0].tolist() == [1, -1, 0, 0]
    assert boxes[0][0].tolist() == [0, 0, 8, 8]


def test_an_image_without_objects_is_background():
    labels, boxes = network().label_and_sample_anchors(ANCHORS, [truth()])
    assert labels[0].tolist() == [0, 0, 0, 0]
    assert boxes[0].tolist() == [[0, 0, 0, 0]] * 4


def test_anchors_outside_of_the_image_are_ignored_on_request():
    rpn = network(anchor_boundary_thresh=0)
    labels, _ = rpn.label_and_sample_anchors(ANCHORS, [truth([0, 0, 8, 8])])
    assert labels[0].tolist() == [1, -1, 0, -1]


def test_the_foreground_fraction_of_the_sample_is_limited():
    rpn = network(batch_size_per_image=2, positive_fraction=0.5)
    labels, _ = rpn.label_and_sample_anchors(
        ANCHORS, [truth([0, 0, 8, 8], [20, 20, 28, 28], [-6, 0, 2, 8])]
    )
    assert sorted(labels[0].tolist()) == [-1, -1, -1, 1]


def test_losses_are_normalised_by_the_full_batch_size():
    rpn = network(loss_weight={"loss_rpn_cls": 1.0, "loss_rpn_loc": 3.0})
    labels, boxes = [torch.tensor([1, 0, -1, 0])], [ANCHORS[0].tensor]
    with EventStorage() as storage:
        losses = rpn.losses(
            ANCHORS, [torch.zeros(1, 4)], labels, [torch.full((1, 4, 4), 0.5)], boxes
        )
        assert storage.latest()["rpn/num_pos_anchors"][0] == 1
        assert storage.latest()["rpn/num_neg_anchors"][0] == 2
    assert losses["loss_rpn_cls"].item() == pytest.approx(3 * math.log(2) / 10)
    assert losses["loss_rpn_loc"].item() == pytest.approx(3 * 4 * 0.5 / 10)


def test_no_gradient_flows_through_proposals():
    rpn, features = network(), {"p3": torch.rand(1, 4, 4, 4, requires_grad=True)}
    images = ImageList(torch.zeros(1, 3, 32, 32), [(32, 32)])
    with EventStorage():
        (found,), losses = rpn(images, features, [truth([0, 0, 8, 8])])
    assert 0 < len(found) <= 4
    assert not found.proposal_boxes.tensor.requires_grad
    assert losses["loss_rpn_cls"].requires_grad
    (found,), losses = rpn.eval()(images, features)
    assert 0 < len(found) <= 2
    assert losses == {}


def test_proposals_are_sorted_by_score_after_nms():
    found = top([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]], [0.5, 2.0, 1.0])
    assert found.proposal_boxes.tensor.tolist() == [[0, 0, 10, 9], [20, 20, 30, 30]]
    assert found.objectness_logits.tolist() == [2.0, 1.0]


def test_levels_do_not_suppress_each_other():
    box = torch.tensor([[[0.0, 0, 10, 10]]])
    (found,) = find_top_rpn_proposals(
        [box, box], [torch.zeros(1, 1)] * 2, [(32, 32)], 0.5, 10, 10, 0, False
    )
    assert len(found) == 2


def test_proposals_are_clipped_and_small_ones_dropped():
    found = top([[-5, -5, 10, 10], [30, 0, 40, 9]], [0.0, 1.0], min_box_size=3)
    assert found.proposal_boxes.tensor.tolist() == [[0, 0, 10, 10]]


def test_the_number_of_proposals_is_limited_before_and_after_nms():
    boxes = [[0, 0, 10, 10], [0, 0, 10, 10], [20, 20, 30, 30], [0, 20, 9, 30]]
    logits = [4.0, 3.0, 2.0, 1.0]
    assert top(boxes, logits, pre_nms_topk=2).objectness_logits.tolist() == [4.0]
    assert top(boxes, logits, post_nms_topk=2).objectness_logits.tolist() == [4.0, 2.0]


def test_non_finite_proposals_are_dropped_or_an_error_in_training():
    boxes, logits = [[0, 0, 10, 10], [0, 0, math.inf, 9]], [0.0, 1.0]
    assert top(boxes, logits).objectness_logits.tolist() == [0.0]
    assert top(boxes[:1] * 2, [math.nan, 1.0]).objectness_logits.tolist() == [1.0]
    with pytest.raises(FloatingPointError):
        top(boxes, logits, training=True)


def test_ground_truth_is_appended_to_the_proposals_with_high_score():
    proposals = Instances((32, 32), proposal_boxes=Boxes([[0, 0, 9, 9]]))
    proposals.objectness_logits = torch.zeros(1)
    (joined,) = add_ground_truth_to_proposals([truth([1, 1, 5, 5])], [proposals])
    assert joined.proposal_boxes.tensor.tolist() == [[0, 0, 9, 9], [1, 1, 5, 5]]
    assert joined.objectness_logits.tolist() == pytest.approx([0, math.log(1e10)], rel=1e-5)
