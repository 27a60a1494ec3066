import pytest
import torch

from d2ext.modeling.set_prediction import SetTargets
from d2ext.projects.detr.modeling.denoising import ContrastiveDenoising, NoiseDraws

BOX = [0.5, 0.5, 0.2, 0.4]


def targets(*counts: int) -> SetTargets:
    """Objects of the classes 0, 1, ... with the same box."""
    total = sum(counts)
    boxes = torch.tensor(BOX).repeat(total, 1)
    return SetTargets(torch.arange(total), boxes, list(counts), [""] * len(counts))


def draws(rows: int, flip: float = 1.0, sign: int = 1, part: float = 0.5) -> NoiseDraws:
    return NoiseDraws(
        torch.full((rows,), flip),
        torch.full((rows,), 9),
        torch.full((rows, 4), sign),
        torch.full((rows, 4), part),
    )


def make(num_queries: int = 4, **options: float) -> ContrastiveDenoising:
    settings = {"num_classes": 10, "label_noise": 0.5, "box_noise": 1.0, **options}
    return ContrastiveDenoising(num_queries=num_queries, **settings)


def test_slots_hold_the_objects_of_their_image_and_the_rest_is_padding():
    groups = make()(targets(2, 1), draws(rows=12))
    assert (groups.groups, groups.size) == (2, 2)
    assert groups.classes.tolist() == [[0, 1] * 4, [2, -1] * 4]
    assert groups.boxes[1, 1::2].abs().sum() == 0


def test_there_is_at_least_one_group():
    assert make(num_queries=1)(targets(3)).groups == 1


@pytest.mark.parametrize(("num_queries", "counts"), [(4, (0, 0)), (0, (2, 1))])
def test_there_are_no_slots_without_objects_or_when_none_are_wanted(num_queries, counts):
    groups = make(num_queries)(targets(*counts))
    assert groups.classes.shape == (2, 0)
    assert groups.boxes.shape == (2, 0, 4)
    assert not groups.attention_mask(5).any()


def test_positive_sides_move_by_a_part_of_half_a_box_and_negative_ones_by_half_a_box_more():
    groups = make(num_queries=1)(targets(1), draws(rows=2))
    # Both corners move right and down: by half of (0.1, 0.2), and by one and a half of it.
    expected = torch.tensor([[0.55, 0.6, 0.2, 0.4], [0.65, 0.8, 0.2, 0.4]])
    torch.testing.assert_close(groups.boxes[0], expected)


def test_noised_boxes_end_at_the_border_of_the_image():
    _, negative = make(num_queries=1, box_noise=2.0)(targets(1), draws(rows=2)).boxes[0]
    torch.testing.assert_close(negative, torch.tensor([0.8, 0.95, 0.2, 0.1]))


def test_negative_boxes_may_be_inside_out():
    signs = torch.tensor([[1, 1, 0, 0]] * 2)  # the corners move towards each other
    drawn = NoiseDraws(
        *(torch.ones(2), torch.zeros(2, dtype=torch.int64), signs, torch.zeros(2, 4))
    )
    positive, negative = make(num_queries=1)(targets(1), drawn).boxes[0]
    torch.testing.assert_close(positive, torch.tensor(BOX))
    torch.testing.assert_close(negative, torch.tensor([0.5, 0.5, 0.0, 0.0]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("flip", "classes"), [(0.24, 9), (0.26, 0)])
def test_a_class_is_replaced_with_half_the_probability_of_label_noise(flip, classes):
    groups = make(num_queries=1)(targets(1), draws(rows=2, flip=flip))
    assert groups.classes.tolist() == [[classes, classes]]


def test_groups_see_themselves_and_the_matching_queries_which_see_no_group():
    mask = make(num_queries=2)(targets(1)).attention_mask(1)  # two groups of two, one query
    allowed = [[int(not masked) for masked in row] for row in mask.tolist()]
    assert allowed == [
        [1, 1, 0, 0, 1],
        [1, 1, 0, 0, 1],
        [0, 0, 1, 1, 1],
        [0, 0, 1, 1, 1],
        [0, 0, 0, 0, 1],
    ]


def test_only_positive_slots_are_matched_each_with_its_object():
    objects = targets(2, 1)
    found = make()(objects).matches(objects, num_layers=3)
    pairs = set(
        zip(found.image.tolist(), found.query[0].tolist(), found.target[0].tolist(), strict=True)
    )
    assert pairs == {(0, 0, 0), (0, 4, 0), (0, 1, 1), (0, 5, 1), (1, 0, 2), (1, 4, 2)}
    assert found.query.shape == (3, 6)
    assert torch.equal(found.query[0], found.query[2])


def test_drawn_numbers_differ_and_stay_in_range():
    torch.manual_seed(0)
    objects = targets(3, 2)
    first, second = make(num_queries=30)(objects), make(num_queries=30)(objects)
    assert not torch.equal(first.boxes, second.boxes)
    assert first.classes.min() >= -1
    assert first.classes.max() < 10
    assert (first.boxes[..., :2] - first.boxes[..., 2:] / 2).min() >= -1e-6
