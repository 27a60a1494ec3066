import torch

from d2ext.modeling.losses.point_sampling import (
    importance_points,
    most_uncertain,
    random_points,
    sample_points,
)


def test_points_are_interpolated_between_pixel_centres_and_fade_beyond():
    maps = torch.tensor([[[[0.0, 2.0], [4.0, 6.0]]]])
    points = torch.tensor([[[0.25, 0.25], [0.75, 0.25], [0.5, 0.5], [0.25, 0.5], [0.0, 0.75]]])
    expected = [[[0.0, 2.0, 3.0, 2.0, 2.0]]]  # the last one lies between 4 and the outside, 0
    assert sample_points(maps, points).tolist() == expected


def test_the_most_uncertain_logits_are_next_to_zero():
    logits = torch.tensor([[3.0, -0.1, 0.2, -5.0], [0.0, 9.0, -8.0, 7.0]])
    chosen = most_uncertain(logits, 2)
    assert [sorted(row) for row in chosen.tolist()] == [[1, 2], [0, 3]]


def test_uncertain_candidates_come_before_the_rest():
    logits = torch.tensor([[[-2.0, 2.0]]])  # 0 at x = 0.5
    candidates = torch.tensor([[[0.1, 0.5], [0.5, 0.5], [0.9, 0.5]]])
    rest = torch.tensor([[[0.3, 0.3]]])
    points = importance_points(logits, candidates, rest, 1)
    torch.testing.assert_close(points, torch.tensor([[[0.5, 0.5], [0.3, 0.3]]]))


def test_random_points_are_float32_between_zero_and_one():
    points = random_points("any", (2, 100, 2), torch.device("cpu"))
    assert points.shape == (2, 100, 2)
    assert points.dtype == torch.float32
    assert 0 <= points.min() < 0.1 < 0.9 < points.max() < 1
