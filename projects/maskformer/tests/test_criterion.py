"""Matching and losses of masks."""

from itertools import permutations

import pytest
import torch

from d2ext.errors import UserError
from d2ext.projects.maskformer.modeling.criterion import DenseMaskCriterion, PointMaskCriterion
from d2ext.projects.maskformer.modeling.matcher import DenseMaskMatcher, PointMaskMatcher
from d2ext.projects.maskformer.modeling.predictions import MaskPredictions, MaskTargets
from detectron2.structures import BitMasks, Instances, PolygonMasks

WEIGHTS = {"class_weight": 2.0, "mask_weight": 5.0, "dice_weight": 3.0}
DENSE = DenseMaskCriterion(DenseMaskMatcher(**WEIGHTS), 0.1)
POINTS = PointMaskCriterion(PointMaskMatcher(**WEIGHTS, num_points=500), 0.1, 500, 3.0, 0.75)


def some_targets(*counts: int) -> MaskTargets:
    """Return vertical stripes of 16 x 16 pixels, as many as asked for per image."""
    stripes = torch.zeros(8, 16, 16, dtype=torch.bool)
    for index, stripe in enumerate(stripes):
        stripe[:, 2 * index : 2 * index + 2] = True
    masks = torch.cat([stripes[:count] for count in counts])
    classes = torch.cat([torch.arange(count) % 3 for count in counts])
    return MaskTargets(classes, masks, list(counts), [f"{i}.jpg" for i in range(len(counts))])


def perfect(targets: MaskTargets, order: list[int], queries: int = 6) -> MaskPredictions:
    """Return predictions on one image: target i is predicted by query order[i]."""
    logits, masks = torch.full((1, 1, queries, 4), -20.0), torch.full((1, queries, 16, 16), -20.0)
    logits[..., 3] = 0
    for index, query in enumerate(order):
        logits[0, 0, query] = -20.0
        logits[0, 0, query, targets.classes[index]] = 20.0
        masks[0, query][targets.masks[index]] = 20.0
    return MaskPredictions(logits, [masks])


EVERY_PIXEL = PointMaskCriterion(PointMaskMatcher(**WEIGHTS, num_points=0), 0.1, 0, 3.0, 0.75)


def test_without_points_every_pixel_counts_once_and_nothing_is_drawn():
    targets = some_targets(3)
    predictions = perfect(targets, [4, 0, 2])
    state = torch.get_rng_state()
    losses = EVERY_PIXEL(predictions, targets)
    assert torch.equal(state, torch.get_rng_state())
    matches = EVERY_PIXEL.matcher(predictions, targets)
    masks = predictions.masks[0][0, matches.query[0]]
    expected = DENSE.mask_losses(masks, targets.masks[matches.target[0]], "final")[1]
    torch.testing.assert_close(losses["loss_dice"], 3.0 * expected.mean())


@pytest.mark.parametrize("criterion", [DENSE, POINTS, EVERY_PIXEL])
def test_perfect_predictions_are_matched_and_have_hardly_a_loss(criterion):
    torch.manual_seed(0)
    targets, order = some_targets(3), [4, 0, 2]
    predictions = perfect(targets, order)
    matches = criterion.matcher(predictions, targets)
    assert matches.query.tolist() == [sorted(order)]
    assert matches.target.tolist() == [[1, 2, 0]]
    losses = criterion(predictions, targets)
    assert losses["loss_ce"] < 1e-3
    if criterion is DENSE:  # interpolated labels are neither 0 nor 1
        assert losses["loss_mask"] < 1e-3
        assert losses["loss_dice"] < 1e-2


@pytest.mark.parametrize("criterion", [DENSE, POINTS])
def test_the_assignment_is_the_cheapest(criterion):
    torch.manual_seed(0)
    targets = some_targets(3)
    masks, logits = torch.randn(1, 5, 8, 8), torch.randn(1, 1, 5, 4)
    matcher = criterion.matcher
    state = torch.get_rng_state()
    mask_cost, dice_cost = matcher.mask_costs(masks[0], targets.masks, "final.0")
    classes = logits[0, 0].softmax(-1)[:, targets.classes].T
    cost = 5 * mask_cost + 3 * dice_cost - 2 * classes
    best = min(permutations(range(5), 3), key=lambda q: sum(cost[t, q[t]] for t in range(3)))
    torch.set_rng_state(state)  # the same points
    found = matcher(MaskPredictions(logits, [masks]), targets)
    pairs = dict(zip(found.target[0].tolist(), found.query[0].tolist(), strict=True))
    assert [pairs[target] for target in range(3)] == list(best)


@pytest.mark.parametrize("criterion", [DENSE, POINTS])
def test_images_have_their_own_targets(criterion):
    torch.manual_seed(0)
    targets = some_targets(2, 0, 4)
    predictions = MaskPredictions(torch.randn(2, 3, 5, 4), [torch.randn(3, 5, 8, 8)] * 2)
    found = criterion.matcher(predictions, targets)
    assert found.image.tolist() == [0, 0, 2, 2, 2, 2]
    assert [sorted(layer[:2]) for layer in found.target.tolist()] == [[0, 1]] * 2
    assert [sorted(layer[2:]) for layer in found.target.tolist()] == [[2, 3, 4, 5]] * 2


def test_a_prediction_that_is_not_finite_names_the_layer_and_the_image():
    targets = some_targets(1, 2)
    masks = torch.zeros(2, 5, 8, 8)
    masks[1, 2, 3, 3] = float("nan")
    predictions = MaskPredictions(torch.zeros(2, 2, 5, 4), [torch.zeros(2, 5, 8, 8), masks])
    with pytest.raises(UserError, match=r"layer final .* image 1 of the batch \(1\.jpg\)"):
        DENSE.matcher(predictions, targets)


def test_most_points_are_the_most_uncertain_candidates():
    logits = torch.linspace(-4, 4, 32).expand(1, 32, 32)  # 0 in the middle of each row
    torch.manual_seed(0)
    points = POINTS.points(logits, "final")
    assert points.shape == (1, 500, 2)
    away = (points[0, :, 0] - 0.5).abs()
    # About a quarter of the candidates; those at the upper and lower border fade towards 0, too.
    assert away[:375].max() < 0.26
    assert away[:375].mean() < 0.08
    assert away[375:].max() > 0.4


def test_semantic_labels_become_a_mask_per_class():
    labels = torch.tensor([[0, 0, 255], [2, 2, 0]])
    targets = MaskTargets.from_semantic(labels, 255, "a.jpg")
    assert targets.classes.tolist() == [0, 2]
    assert targets.masks.int().tolist() == [[[1, 1, 0], [0, 0, 1]], [[0, 0, 0], [1, 1, 0]]]
    padded = MaskTargets.cat([targets, targets], (3, 4))
    assert padded.masks.shape == (4, 3, 4)
    assert padded.counts == [2, 2]
    assert not padded.masks[:, 2].any()
    assert not padded.masks[:, :, 3].any()


def test_polygons_and_bitmasks_give_the_same_targets():
    polygons = Instances((8, 8))
    polygons.gt_classes = torch.tensor([1])
    polygons.gt_masks = PolygonMasks([[torch.tensor([1.0, 2, 5, 2, 5, 6, 1, 6]).numpy()]])
    bits = Instances((8, 8), gt_classes=polygons.gt_classes)
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, 2:6, 1:5] = True
    bits.gt_masks = BitMasks(mask)
    assert torch.equal(
        MaskTargets.from_instances(polygons).masks, MaskTargets.from_instances(bits).masks
    )
