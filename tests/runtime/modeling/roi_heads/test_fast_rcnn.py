"""Fast R-CNN: losses and detections."""

import math

import pytest
import torch

import d2ext  # noqa: F401
from detectron2.layers import ShapeSpec
from detectron2.modeling import FastRCNNOutputLayers
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads import FastRCNNConvFCHead
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

TRANSFORM = Box2BoxTransform(weights=(1, 1, 1, 1))


def predictor(**options) -> FastRCNNOutputLayers:
    settings = {"box2box_transform": TRANSFORM, "num_classes": 3}
    return FastRCNNOutputLayers(ShapeSpec(channels=4), **{**settings, **options})


def proposals() -> Instances:
    found = Instances((40, 40))
    found.proposal_boxes = Boxes([[0, 0, 10, 10], [0, 0, 20, 20], [5, 5, 9, 9]])
    found.gt_boxes = Boxes([[0, 0, 10, 10], [0, 0, 20, 20], [5, 5, 9, 9]])
    found.gt_classes = torch.tensor([1, 3, 0])  # the second one is background
    return found


def losses_of(layers: FastRCNNOutputLayers, logits: torch.Tensor, deltas: torch.Tensor) -> dict:
    with EventStorage():
        return {k: v.item() for k, v in layers.losses((logits, deltas), [proposals()]).items()}


def test_a_box_head_has_the_published_layer_names():
    shape = ShapeSpec(channels=4, height=3, width=5)
    head = FastRCNNConvFCHead(shape, conv_dims=[32], fc_dims=[7, 6], conv_norm="GN")
    names = [name for name, _ in head.named_children()]
    assert names == ["conv1", "flatten", "fc1", "fc_relu1", "fc2", "fc_relu2"]
    assert (head.output_shape.channels, head.output_shape.height) == (6, None)
    assert head(torch.zeros(2, 4, 3, 5)).shape == (2, 6)


def test_a_box_head_without_linear_layers_keeps_the_spatial_size():
    shape = ShapeSpec(channels=4, height=3, width=5)
    output = FastRCNNConvFCHead(shape, conv_dims=[6], fc_dims=[]).output_shape
    assert (output.channels, output.height, output.width) == (6, 3, 5)


def test_feature_maps_are_flattened_for_the_predictors():
    shape = ShapeSpec(channels=4, height=2, width=3)
    layers = FastRCNNOutputLayers(
        shape, box2box_transform=TRANSFORM, num_classes=3, cls_agnostic_bbox_reg=True
    )
    logits, deltas = layers(torch.zeros(5, 4, 2, 3))
    assert (tuple(logits.shape), tuple(deltas.shape)) == ((5, 4), (5, 4))


def test_the_class_loss_is_a_mean_and_the_box_loss_a_sum_over_all_regions():
    losses = losses_of(predictor(), torch.zeros(3, 4), torch.full((3, 12), 0.5))
    assert losses["loss_cls"] == pytest.approx(math.log(4))
    assert losses["loss_box_reg"] == pytest.approx(2 * 4 * 0.5 / 3)


def test_only_the_true_class_moves_its_box():
    deltas = torch.zeros(3, 12)
    deltas[0, 4:8] = 1  # class 1 of the first, class 1 of the background, class 2 of the third
    deltas[1, 4:8] = deltas[2, 8:] = 9
    assert losses_of(predictor(), torch.zeros(3, 4), deltas)["loss_box_reg"] == pytest.approx(4 / 3)


def test_loss_weight_is_one_number_or_a_dict_by_name():
    logits, deltas = torch.zeros(3, 4), torch.full((3, 12), 0.5)
    plain = losses_of(predictor(), logits, deltas)
    both = losses_of(predictor(loss_weight=2.0), logits, deltas)
    one = losses_of(predictor(loss_weight={"loss_box_reg": 2.0}), logits, deltas)
    assert both == pytest.approx({name: 2 * value for name, value in plain.items()})
    assert one == pytest.approx({**plain, "loss_box_reg": 2 * plain["loss_box_reg"]})


def test_sigmoid_classification_has_no_background():
    losses = losses_of(predictor(use_sigmoid_ce=True), torch.zeros(3, 4), torch.zeros(3, 12))
    assert losses["loss_cls"] == pytest.approx(3 * 3 * math.log(2) / 3)
    probabilities = predictor(use_sigmoid_ce=True).predict_probs(
        (torch.zeros(3, 4), torch.zeros(3, 12)), [proposals()]
    )
    assert probabilities[0].tolist() == [[0.5] * 4] * 3


def federated(number: int) -> FastRCNNOutputLayers:
    return predictor(
        num_classes=20,
        use_sigmoid_ce=True,
        use_fed_loss=True,
        fed_loss_num_classes=number,
        get_fed_loss_cls_weights=lambda: torch.arange(20.0) + 1,
    )


def test_the_federated_loss_samples_classes_by_weight():
    classes, layers = torch.tensor([3, 20, 7]), federated(6)
    torch.manual_seed(1)
    drawn = layers.get_fed_loss_classes(classes, 6, 20, layers.fed_loss_cls_weights)
    assert drawn.tolist() == [3, 7, 20, 14, 15, 17]
    assert layers.get_fed_loss_classes(classes, 2, 20, None).tolist() == [3, 7, 20]


def test_the_federated_loss_sums_the_sampled_classes_only():
    found = proposals()
    found.gt_classes = torch.tensor([3, 20, 7])
    with EventStorage():
        losses = federated(6).losses((torch.zeros(3, 21), torch.zeros(3, 80)), [found])
    assert losses["loss_cls"].item() == pytest.approx(5 * math.log(2))


def test_no_proposals_have_no_loss_and_no_detections():
    logits = torch.randn(0, 4, requires_grad=True)
    deltas = torch.randn(0, 4, requires_grad=True)  # for all classes together
    with EventStorage():
        losses = predictor().losses((logits, deltas), [])
    sum(losses.values()).backward()
    assert [loss.item() for loss in losses.values()] == [0, 0]
    assert predictor().inference((logits, deltas), [])[0] == []


def test_the_box_of_the_true_class_is_chosen():
    deltas = torch.zeros(3, 12)
    deltas[0, 4] = 0.5
    (boxes,) = predictor().predict_boxes_for_gt_classes((torch.zeros(3, 4), deltas), [proposals()])
    assert boxes.tolist() == [[5, 0, 15, 10], [0, 0, 20, 20], [5, 5, 9, 9]]


def test_detections_are_suppressed_within_a_class_and_clipped():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [-5, 20, 10, 99]])
    scores = torch.tensor([[0.9, 0.3, 0.0], [0.8, 0.1, 0.0], [0.05, 0.6, 0.0]])
    (found,), (rows,) = fast_rcnn_inference([boxes], [scores], [(30, 30)], 0.05, 0.5, 3)
    assert found.scores.tolist() == pytest.approx([0.9, 0.6, 0.3])
    assert found.pred_classes.tolist() == [0, 1, 1]
    assert found.pred_boxes.tensor[1].tolist() == [0, 20, 10, 30]
    assert rows.tolist() == [0, 2, 0]


def test_each_class_has_its_own_box():
    boxes = torch.tensor([[0.0, 0, 10, 10, 20, 20, 30, 30]])
    scores = torch.tensor([[0.5, 0.4, 0.1]])
    (found,), _ = fast_rcnn_inference([boxes], [scores], [(30, 30)], 0.05, 0.5, -1)
    assert found.pred_boxes.tensor.tolist() == [[0, 0, 10, 10], [20, 20, 30, 30]]


def test_non_finite_predictions_are_dropped():
    boxes, scores = torch.tensor([[0.0, 0, 10, 10], [0, 0, math.inf, 9]]), torch.full((2, 3), 0.3)
    (found,), _ = fast_rcnn_inference([boxes], [scores], [(30, 30)], 0.05, 0.5, 10)
    assert found.pred_boxes.tensor.tolist() == [[0, 0, 10, 10]] * 2
    assert found.pred_classes.tolist() == [0, 1]
