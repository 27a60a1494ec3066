import torch

from d2ext.projects.yolo_fastest.modeling.matching import match_cells

ANCHORS = torch.tensor([[1.0, 1.0], [4.0, 4.0]])


def matched(*box: float, grid: tuple[int, int] = (8, 10), ratio: float = 2.0, reach: float = 0.5):
    """(anchor, column, row) of the positives of one box, sorted."""
    found = match_cells(torch.tensor([box]), ANCHORS, grid, ratio, reach)
    assert found.target.tolist() == [0] * len(found.target)
    pairs = zip(found.anchor.tolist(), found.cell.tolist(), strict=True)
    return sorted((anchor, *cell) for anchor, cell in pairs)


def test_a_box_is_assigned_to_its_cell_and_the_nearer_neighbours():
    assert matched(3.2, 4.7, 1.5, 1.5) == [(0, 2, 4), (0, 3, 4), (0, 3, 5)]


def test_at_the_border_there_are_no_cells_beyond():
    assert matched(0.2, 7.9, 1.0, 1.0) == [(0, 0, 7)]
    assert matched(9.9, 0.9, 1.0, 1.0) == [(0, 9, 0), (0, 9, 1)]


def test_a_center_on_the_far_border_stays_inside():
    assert matched(10.0, 8.0, 1.0, 1.0)[0] == (0, 9, 7)


def test_only_anchors_of_about_its_size_learn_a_box():
    assert {anchor for anchor, *_ in matched(3.2, 4.7, 3.0, 6.0)} == {1}
    assert matched(3.2, 4.7, 2.0, 1.0) == []  # twice as wide is too wide
    assert {anchor for anchor, *_ in matched(3.2, 4.7, 2.0, 2.0, ratio=2.5)} == {0, 1}


def test_neighbour_reach_limits_the_distance_to_neighbours():
    assert matched(3.2, 4.7, 1.0, 1.0, reach=0.25) == [(0, 2, 4), (0, 3, 4)]


def test_no_boxes_and_boxes_without_a_size_have_no_positives():
    assert len(match_cells(torch.zeros(0, 4), ANCHORS, (8, 10), 2.0, 0.5).target) == 0
    assert matched(3.2, 4.7, 0.0, 1.0) == []
