"""`detectron2.structures.boxes`: boxes, their formats and overlaps."""

import numpy as np
import pytest
import torch

import d2ext  # noqa: F401
from detectron2.structures import (
    Boxes,
    BoxMode,
    pairwise_ioa,
    pairwise_iou,
    pairwise_point_box_distance,
)
from detectron2.structures.boxes import matched_pairwise_iou, pairwise_intersection

XYXY, XYWH, XYWHA = BoxMode.XYXY_ABS, BoxMode.XYWH_ABS, BoxMode.XYWHA_ABS
BAD = (ValueError, IndexError, AssertionError)


def boxes(*rows: list[float]) -> Boxes:
    return Boxes(torch.tensor(rows, dtype=torch.float32).reshape(-1, 4))


@pytest.mark.parametrize("kind", [list, tuple])
def test_converting_keeps_the_type_of_a_list_or_tuple(kind: type):
    assert BoxMode.convert(kind([1, 2, 30, 40]), XYXY, XYWH) == kind([1, 2, 29, 38])
    assert BoxMode.convert(kind([1, 2, 29, 38]), XYWH, XYXY) == kind([1, 2, 30, 40])
    assert BoxMode.convert(kind([10, 10, 4, 2]), XYWH, XYWHA) == kind([12, 11, 4, 2, 0])
    assert type(BoxMode.convert(kind([1, 2, 30, 40]), 0, 1)) is kind


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_converting_keeps_the_dtype_of_an_array(dtype: type):
    found = BoxMode.convert(np.array([[1, 2, 30, 40]], dtype=dtype), XYXY, XYWH)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, [[1, 2, 29, 38]])


def test_converting_keeps_the_dtype_of_a_tensor():
    found = BoxMode.convert(torch.tensor([[1.0, 2, 3, 4]], dtype=torch.float64), XYWH, XYXY)
    assert found.dtype == torch.float64
    assert found.tolist() == [[1, 2, 4, 6]]


@pytest.mark.parametrize(
    ("angle", "expected"),
    [(0, [3, 2, 7, 4]), (90, [4, 1, 6, 5]), (-90, [4, 1, 6, 5]), (180, [3, 2, 7, 4])],
)
def test_a_rotated_box_converts_to_its_enclosing_box(angle: float, expected: list[float]):
    rotated = torch.tensor([[5.0, 3.0, 4.0, 2.0, angle]])
    torch.testing.assert_close(
        BoxMode.convert(rotated, XYWHA, XYXY), torch.tensor([expected]) * 1.0
    )


def test_the_enclosing_box_of_a_diagonal_square_is_sqrt_2_wider():
    found = BoxMode.convert(torch.tensor([[0.0, 0.0, 2.0, 2.0, 45.0]]), XYWHA, XYXY)
    torch.testing.assert_close(found, torch.tensor([[-1.0, -1.0, 1.0, 1.0]]) * 2**0.5)


def test_the_same_format_is_returned_as_it_is():
    box = [1, 2, 3, 4]
    assert BoxMode.convert(box, XYXY, XYXY) is box


@pytest.mark.parametrize(("start", "end"), [(XYXY, BoxMode.XYXY_REL), (XYXY, XYWHA), (XYWHA, XYWH)])
def test_some_formats_do_not_convert(start: BoxMode, end: BoxMode):
    with pytest.raises((NotImplementedError, AssertionError)):
        BoxMode.convert([1, 2, 3, 4, 5], start, end)


def test_converting_a_list_of_boxes_is_an_error():
    with pytest.raises(BAD):
        BoxMode.convert([[1.0, 2, 3, 4]], XYXY, XYWH)


def test_empty_boxes_have_shape_0_by_4():
    assert Boxes([]).tensor.shape == (0, 4)
    assert Boxes.cat([]).tensor.shape == (0, 4)
    assert len(Boxes(torch.zeros(0))) == 0


def test_boxes_are_float32_and_keep_their_tensor():
    tensor = torch.zeros(2, 4)
    assert Boxes(tensor).tensor is tensor
    assert Boxes(np.zeros((2, 4))).tensor.dtype == torch.float32


def test_boxes_of_other_shapes_are_refused():
    with pytest.raises(BAD):
        Boxes(torch.zeros(3, 5))


def test_areas_centres_and_nonempty_boxes():
    some = boxes([1, 2, 30, 40], [5, 5, 5, 9])
    assert some.area().tolist() == [1102, 0]
    assert some.get_centers().tolist() == [[15.5, 21], [5, 7]]
    assert some.nonempty().tolist() == [True, False]
    assert some.nonempty(threshold=29).tolist() == [False, False]


def test_clipping_does_not_change_the_given_tensor():
    tensor = torch.tensor([[-1.0, 2, 30, 40]])
    some = Boxes(tensor)
    some.clip((10, 20))
    assert some.tensor.tolist() == [[0, 2, 20, 10]]
    assert tensor.tolist() == [[-1, 2, 30, 40]]


def test_clipping_non_finite_boxes_is_an_error():
    with pytest.raises((FloatingPointError, AssertionError)):
        boxes([0, 0, float("nan"), 1]).clip((3, 3))


def test_scaling_is_in_place():
    tensor = torch.tensor([[1.0, 2, 3, 4]])
    Boxes(tensor).scale(2, 3)
    assert tensor.tolist() == [[2, 6, 6, 12]]


def test_a_box_at_the_far_border_is_not_inside():
    some = boxes([0, 0, 4, 4], [0, 0, 5, 4], [-1, 0, 2, 2])
    assert some.inside_box((5, 5)).tolist() == [True, False, False]
    assert some.inside_box((5, 5), boundary_threshold=1).tolist() == [True, True, True]


def test_boxes_are_indexed():
    some = boxes([0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3])
    assert some[1].tensor.tolist() == [[0, 0, 2, 2]]
    assert some[1:].area().tolist() == [4, 9]
    assert some[torch.tensor([True, False, True])].area().tolist() == [1, 9]
    assert some[torch.tensor([2, 0])].area().tolist() == [9, 1]
    assert [box.tolist() for box in some][2] == [0, 0, 3, 3]
    with pytest.raises(IndexError):
        some[3]


def test_iou_and_ioa_of_two_squares_by_hand():
    first, second = boxes([0, 0, 2, 2], [5, 5, 6, 6]), boxes([1, 1, 3, 3], [0, 0, 4, 2])
    assert pairwise_intersection(first, second).tolist() == [[1, 4], [0, 0]]
    torch.testing.assert_close(pairwise_iou(first, second), torch.tensor([[1 / 7, 0.5], [0, 0]]))
    torch.testing.assert_close(pairwise_ioa(first, second), torch.tensor([[0.25, 0.5], [0, 0]]))
    torch.testing.assert_close(matched_pairwise_iou(first, second), torch.tensor([1 / 7, 0.0]))


def test_iou_of_boxes_without_area_is_zero():
    point = boxes([1, 1, 1, 1])
    assert pairwise_iou(point, point).tolist() == [[0]]
    assert pairwise_ioa(boxes([0, 0, 2, 2]), point).tolist() == [[0]]


def test_iou_with_empty_boxes_is_empty():
    assert pairwise_iou(Boxes([]), boxes([0, 0, 1, 1])).shape == (0, 1)


def test_matched_iou_needs_equal_numbers_of_boxes():
    with pytest.raises(BAD):
        matched_pairwise_iou(boxes([0, 0, 1, 1]), Boxes([]))


def test_distances_of_a_point_to_the_sides_by_hand():
    found = pairwise_point_box_distance(torch.tensor([[2.0, 3.0]]), boxes([1, 2, 30, 40]))
    assert found.tolist() == [[[1, 1, 28, 37]]]
