from itertools import product

import torch

from d2ext.modeling.matching import assign_fcos, distances, size_ranges

LEVELS = [
    torch.cartesian_prod(*[torch.arange(4, 64, 8.0)] * 2).flip(1),
    torch.tensor([[16.0, 16.0]]),
]


def match(boxes, radius=1.5, limits=(64,)):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return assign_fcos(LEVELS, [8, 16], size_ranges(limits), boxes, radius)


def test_only_the_middle_of_a_box_learns_it():
    points = torch.cat(LEVELS)[match([[0, 0, 60, 60]]) == 0]
    assert {tuple(point) for point in points.tolist()} == set(product((20, 28, 36), repeat=2))


def test_without_a_radius_the_whole_box_learns():
    assert (match([[0, 0, 20, 20]], radius=0) == 0).sum() == 4  # 4 and 12 on each axis


def test_the_smaller_of_two_boxes_wins():
    matched = match([[0, 0, 60, 60], [20, 20, 40, 40]])
    assert matched[(torch.cat(LEVELS) == 28).all(1)].tolist() == [1]


def test_the_far_side_decides_on_the_level():
    # From (12, 12) the far sides of this box are 18 away, from (16, 16) on the coarse level 16.
    fine, coarse = match([[0, 0, 30, 30]], limits=(18,)), match([[0, 0, 30, 30]], limits=(10,))
    assert (fine == 0).sum() == 1
    assert fine[-1] == -1
    assert coarse[:-1].max() == -1
    assert coarse[-1] == 0


def test_both_ends_of_a_range_belong_to_it():
    # From (16, 16) the far sides of this box are 32 away, on the border of both levels.
    matched = match([[0, 0, 48, 48]], radius=0, limits=(32,))
    assert matched[-1] == 0
    assert match([[0, 0, 24, 24]], radius=0, limits=(20,))[0] == 0  # (4, 4): 20 away


def test_no_boxes_leave_background_alone():
    assert (match([]) == -1).all()
    assert len(match([])) == 65


def test_distances_are_left_top_right_bottom():
    found = distances(torch.tensor([[3.0, 5.0]]), torch.tensor([[1.0, 2.0, 10.0, 20.0]]))
    assert found.tolist() == [[2, 3, 7, 15]]
