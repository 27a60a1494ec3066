"""Boxes that cannot be learned from."""

import math

import numpy as np

from d2ext.data.box_validity import enclosing_boxes, invalid_boxes


def found(boxes: list[list[float]], size: tuple[int, int] = (64, 48)) -> list[str]:
    """The issue of each box, "" for none."""
    array = np.array(boxes, dtype=np.float64)
    masks = invalid_boxes(array, np.tile(np.array(size, dtype=np.float64), (len(boxes), 1)))
    return ["".join(code for code, mask in masks.items() if mask[n]) for n in range(len(boxes))]


def test_each_box_has_at_most_one_issue():
    assert found(
        [
            [3, 2, 9, 9],
            [math.nan, 2, 0, 9],
            [3, 2, math.inf, 9],
            [3, 2, 0, 9],
            [70, 2, -1, 9],
            [64, 2, 9, 9],
            [63.9, 2, 9, 9],
            [-9, 2, 9, 9],
            [-8.9, 2, 9, 9],
            [3, -20, 9, 9],
        ]
    ) == [
        "",
        "box-nonfinite",
        "box-nonfinite",
        "box-empty",
        "box-empty",
        "box-outside",
        "",
        "box-outside",
        "",
        "box-outside",
    ]


def test_rotated_boxes_are_outside_where_the_upright_box_around_them_is():
    assert found([[70, 20, 20, 4, 0], [70, 20, 20, 4, 90], [70, 20, 20, 4, math.nan]]) == [
        "",
        "box-outside",
        "box-nonfinite",
    ]


def test_a_box_turned_by_ninety_degrees_is_as_wide_as_it_was_high():
    boxes = np.array([[30.0, 20, 10, 4, 0], [30, 20, 10, 4, -90], [30, 20, 10, 10, 45]])
    around = enclosing_boxes(boxes)
    half = math.sqrt(50)
    expected = [[25, 18, 35, 22], [28, 15, 32, 25], [30 - half, 20 - half, 30 + half, 20 + half]]
    np.testing.assert_allclose(around, expected)


def test_no_boxes_have_no_issues():
    masks = invalid_boxes(np.zeros((0, 4)), np.zeros((0, 2)))
    assert [mask.shape for mask in masks.values()] == [(0,)] * 3
