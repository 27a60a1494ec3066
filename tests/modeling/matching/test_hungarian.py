from itertools import permutations

import pytest
import torch

from d2ext.errors import UserError
from d2ext.modeling.matching.hungarian import HungarianMatcher
from d2ext.modeling.set_prediction import SetPredictions, SetTargets


def some_targets(*counts: int, seed: int = 0) -> SetTargets:
    generator = torch.Generator().manual_seed(seed)
    total = sum(counts)
    boxes = torch.rand(total, 4, generator=generator) * 0.4 + 0.1
    classes = torch.randint(0, 3, (total,), generator=generator)
    return SetTargets(classes, boxes, list(counts), [f"{i}.jpg" for i in range(len(counts))])


def some_predictions(
    layers: int, images: int, queries: int, seed: int = 1, **options
) -> SetPredictions:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(layers, images, queries, 3, generator=generator)
    boxes = torch.rand(layers, images, queries, 4, generator=generator) * 0.4 + 0.1
    return SetPredictions(logits, boxes, **options)


@pytest.mark.parametrize("classification", ["focal", "softmax"])
def test_the_assignment_is_the_cheapest(classification):
    matcher = HungarianMatcher(2.0, 5.0, 2.0, classification)
    targets, predictions = some_targets(3), some_predictions(1, 1, 5)
    cost = matcher.cost(predictions, targets)[:, 0]  # (T, Q)
    best = min(permutations(range(5), 3), key=lambda q: sum(cost[t, q[t]] for t in range(3)))
    (found,) = matcher([predictions], targets)
    pairs = dict(zip(found.target[0].tolist(), found.query[0].tolist(), strict=True))
    assert [pairs[target] for target in range(3)] == list(best)


def test_images_are_matched_each_on_its_own():
    matcher = HungarianMatcher(1.0, 5.0, 2.0)
    targets, predictions = some_targets(2, 0, 4), some_predictions(2, 3, 6)
    (found,) = matcher([predictions], targets)
    assert found.image.tolist() == [0, 0, 2, 2, 2, 2]
    last = SetTargets(targets.classes[2:], targets.boxes[2:], [4], ["2.jpg"])
    alone = SetPredictions(predictions.logits[:, 2:], predictions.boxes[:, 2:])
    (single,) = matcher([alone], last)
    assert torch.equal(found.query[:, 2:], single.query)
    assert torch.equal(found.target[:, 2:], single.target + 2)
    assert (found.query[:, 2:].diff() > 0).all()  # ascending per image


def test_groups_of_other_sizes_are_matched_in_the_same_go():
    matcher = HungarianMatcher(1.0, 5.0, 2.0)
    targets = some_targets(2, 1)
    decoder, encoder = some_predictions(3, 2, 4), some_predictions(1, 2, 9, seed=5, name="enc")
    together = matcher([decoder, encoder], targets)
    apart = [matcher([each], targets)[0] for each in (decoder, encoder)]
    for own, other in zip(together, apart, strict=True):
        assert torch.equal(own.query, other.query)
        assert torch.equal(own.target, other.target)


def test_more_objects_than_queries_leave_objects_unmatched():
    (found,) = HungarianMatcher(1.0, 5.0, 2.0)([some_predictions(1, 1, 2)], some_targets(5))
    assert found.query.tolist() == [[0, 1]]


def test_no_objects_at_all_give_no_pairs():
    (found,) = HungarianMatcher(1.0, 5.0, 2.0)([some_predictions(2, 2, 3)], some_targets(0, 0))
    assert found.query.shape == found.target.shape == (2, 0)
    assert found.image.shape == (0,)


def test_class_agnostic_groups_ignore_the_classes():
    targets = some_targets(3)
    matcher = HungarianMatcher(1.0, 0.0, 0.0)
    predictions = some_predictions(1, 1, 4, class_agnostic=True)
    first = SetTargets(torch.zeros(3, dtype=torch.int64), targets.boxes, [3], [""])
    predictions_of_class_0 = some_predictions(1, 1, 4)
    torch.testing.assert_close(
        matcher.cost(predictions, targets), matcher.cost(predictions_of_class_0, first)
    )


def test_the_cost_is_float32_under_autocast():
    targets, predictions = some_targets(2), some_predictions(1, 1, 3)
    matcher = HungarianMatcher(1.0, 5.0, 2.0)
    expected = matcher.cost(predictions, targets)
    with torch.autocast("cpu", torch.bfloat16):
        found = matcher.cost(predictions, targets)
    assert torch.equal(found, expected)


def test_a_cost_that_is_not_finite_names_layer_and_image():
    predictions = some_predictions(3, 2, 4)
    predictions.boxes[1, 1, 2] = torch.nan
    with pytest.raises(UserError, match=r"layer 1 with .* image 1 of the batch \(1\.jpg\)"):
        HungarianMatcher(1.0, 5.0, 2.0)([predictions], some_targets(2, 2))
