import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from d2ext.modeling.losses.boxes import cxcywh_to_xyxy
from d2ext.modeling.losses.set_criterion import SetCriterion
from d2ext.modeling.matching.hungarian import HungarianMatcher
from d2ext.modeling.set_prediction import Matches, SetPredictions, SetTargets

PAIRS = Matches(
    image=torch.tensor([0, 1, 1]),
    query=torch.tensor([[2, 0, 3], [1, 1, 2]]),
    target=torch.tensor([[0, 2, 1], [0, 1, 2]]),
)


@pytest.fixture
def targets():
    boxes = torch.tensor([[0.5, 0.5, 0.4, 0.2], [0.3, 0.3, 0.2, 0.2], [0.7, 0.6, 0.3, 0.4]])
    return SetTargets(torch.tensor([1, 0, 2]), boxes, [1, 2], ["", ""])


@pytest.fixture
def predictions():
    """Two layers, two images, four queries; four logits."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, 4, 4, generator=generator)
    boxes = torch.rand(2, 2, 4, 4, generator=generator) * 0.4 + 0.2
    return SetPredictions(logits.requires_grad_(), boxes.requires_grad_(), matches=PAIRS)


def criterion(classification: str = "focal", **weights: float) -> SetCriterion:
    matcher = HungarianMatcher(1.0, 5.0, 2.0, classification)
    ones = {"loss_ce": 1.0, "loss_bbox": 1.0, "loss_giou": 1.0}
    return SetCriterion(matcher, {**ones, **weights})


def classes_of(layer: int, background: int) -> torch.Tensor:
    expected = torch.full((2, 4), background)
    expected[PAIRS.image, PAIRS.query[layer]] = torch.tensor([1, 0, 2])[PAIRS.target[layer]]
    return expected


def test_the_focal_loss_is_the_sum_over_the_number_of_boxes(predictions, targets):
    losses = criterion()([predictions], targets)
    for layer, name in enumerate(("loss_ce_0", "loss_ce")):
        hot = F.one_hot(classes_of(layer, 4), 5)[..., :4].float()
        expected = sigmoid_focal_loss(predictions.logits[layer], hot, reduction="sum") / 3
        torch.testing.assert_close(losses[name], expected)


def test_the_cross_entropy_is_torchs_with_a_light_background(predictions, targets):
    losses = criterion("softmax")([predictions], targets)
    weight = torch.tensor([1.0, 1.0, 1.0, 0.1])
    for layer, name in enumerate(("loss_ce_0", "loss_ce")):
        logits, expected = predictions.logits[layer].flatten(0, 1), classes_of(layer, 3).flatten()
        torch.testing.assert_close(losses[name], F.cross_entropy(logits, expected, weight))


def test_the_box_losses_are_those_of_the_pairs(predictions, targets):
    losses = criterion()([predictions], targets)
    for layer, suffix in enumerate(("_0", "")):
        boxes = predictions.boxes[layer][PAIRS.image, PAIRS.query[layer]]
        own = targets.boxes[PAIRS.target[layer]]
        l1, giou = (
            F.l1_loss(boxes, own, reduction="sum") / 3,
            generalized_box_iou_loss(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(own), "sum") / 3,
        )
        torch.testing.assert_close(losses[f"loss_bbox{suffix}"], l1)
        torch.testing.assert_close(losses[f"loss_giou{suffix}"], giou)


def test_weights_are_those_of_the_kind_of_loss(predictions, targets):
    plain = criterion()([predictions], targets)
    weighted = criterion(loss_bbox=5.0, loss_giou=2.0)([predictions], targets)
    assert weighted["loss_bbox_0"] == 5 * plain["loss_bbox_0"]
    assert weighted["loss_giou"] == 2 * plain["loss_giou"]
    assert weighted["loss_ce"] == plain["loss_ce"]


def test_repeats_divide_the_sums(predictions, targets):
    once = criterion()([predictions], targets)
    predictions.repeats, predictions.name = 3, "dn"
    found = criterion()([predictions], targets)
    torch.testing.assert_close(found["loss_ce_dn_0"], once["loss_ce_0"] / 3)
    torch.testing.assert_close(found["loss_bbox_dn"], once["loss_bbox"] / 3)


@pytest.mark.parametrize("classification", ["focal", "softmax"])
def test_a_batch_without_objects_has_finite_losses_and_gradients(predictions, classification):
    empty = SetTargets(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), [0, 0], ["", ""])
    predictions.matches = None
    losses = criterion(classification)([predictions], empty)
    sum(losses.values()).backward()
    assert losses["loss_bbox"] == losses["loss_giou"] == 0
    assert losses["loss_ce"] > 0
    assert predictions.logits.grad.isfinite().all()
    assert predictions.boxes.grad.abs().sum() == 0


def test_masks_of_the_last_layer_are_compared_at_the_targets_size(predictions, targets):
    targets.masks = torch.zeros(3, 8, 8, dtype=torch.bool)
    targets.masks[:, :4] = True
    predictions.masks = torch.full((2, 4, 4, 4), -30.0)
    predictions.masks[:, :, :2] = 30.0
    losses = criterion(loss_mask=1.0, loss_dice=1.0)([predictions], targets)
    assert losses["loss_dice"] < 0.01
    assert losses["loss_mask"] < 0.01
    assert "loss_mask_0" not in losses
