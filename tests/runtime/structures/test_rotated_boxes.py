"""`detectron2.structures.RotatedBoxes`: everything except the IoU, which an operator computes."""

import pytest
import torch

import d2ext  # noqa: F401
from detectron2.structures import RotatedBoxes


def rotated(*rows: list[float]) -> RotatedBoxes:
    return RotatedBoxes(torch.tensor(rows, dtype=torch.float32))


def test_areas_and_nonempty_boxes_follow_the_sides():
    some = rotated([5, 3, 4, 2, 30], [0, 0, 0, 3, 10])
    assert some.area().tolist() == [8, 0]
    assert some.nonempty().tolist() == [True, False]
    assert some.get_centers().tolist() == [[5, 3], [0, 0]]


def test_angles_are_normalised_to_plus_minus_180_degrees():
    some = rotated(*([0, 0, 1, 1, angle] for angle in (180, -180, 370, -181, 90)))
    some.normalize_angles()
    assert some.tensor[:, 4].tolist() == [-180, -180, 10, 179, 90]


def test_only_upright_boxes_are_clipped():
    some = rotated([9, 5, 4, 4, 0], [9, 5, 4, 4, 360.5], [9, 5, 4, 4, 30], [1, 1, 2, 2, 0])
    some.clip((10, 10))
    assert some.tensor[0].tolist() == [8.5, 5, 3, 4, 0]
    assert some.tensor[1].tolist() == [8.5, 5, 3, 4, 0.5]
    assert some.tensor[2].tolist() == [9, 5, 4, 4, 30]
    assert some.tensor[3].tolist() == [1, 1, 2, 2, 0]


def test_a_box_is_inside_if_its_corners_are():
    some = rotated([5, 5, 8, 2, 0], [5, 5, 8, 2, 90], [3, 5, 8, 2, 0], [3, 5, 8, 2, 90])
    assert some.inside_box((10, 10)).tolist() == [True, True, False, True]
    assert some.inside_box((10, 10), boundary_threshold=2).all()


def test_scaling_an_upright_box_scales_its_sides():
    some = rotated([5, 3, 4, 2, 0], [5, 3, 4, 2, 90])
    some.scale(2, 3)
    expected = torch.tensor([[10.0, 9, 8, 6, 0], [10, 9, 12, 4, 90]])
    torch.testing.assert_close(some.tensor, expected)


def test_uniform_scaling_keeps_the_angle():
    some = rotated([5, 3, 4, 2, -33])
    some.scale(2, 2)
    torch.testing.assert_close(some.tensor, torch.tensor([[10.0, 6, 8, 4, -33]]))


def test_rotated_boxes_are_indexed_and_concatenated():
    some = rotated([1, 1, 1, 1, 0], [2, 2, 2, 2, 0])
    assert some[1].tensor.shape == (1, 5)
    assert some[torch.tensor([False, True])].area().tolist() == [4]
    assert len(RotatedBoxes.cat([some, some])) == 4
    assert RotatedBoxes.cat([]).tensor.shape == (0, 5)
    with pytest.raises((ValueError, AssertionError)):
        RotatedBoxes(torch.zeros(2, 4))
