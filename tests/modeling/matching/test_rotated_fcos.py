import torch

from d2ext.modeling.matching import assign_fcos, assign_rotated_fcos, size_ranges
from detectron2.structures import BoxMode

GRID = torch.cartesian_prod(*[torch.arange(4, 96, 8.0)] * 2).flip(1)
LEVELS, STRIDES = [GRID, GRID[::4]], [8, 16]


def match(boxes: torch.Tensor, radius: float = 1.5, limits: tuple[float, ...] = (32.0,)):
    return assign_rotated_fcos(LEVELS, STRIDES, size_ranges(limits), boxes, radius)


def test_boxes_without_a_rotation_are_assigned_like_upright_ones():
    generator = torch.Generator().manual_seed(0)
    place, size = torch.rand(2, 12, 2, generator=generator)
    boxes = torch.cat((place * 96, 16 + size * 40, torch.zeros(12, 1)), dim=1)
    upright = BoxMode.convert(
        torch.cat((boxes[:, :2] - boxes[:, 2:4] / 2, boxes[:, 2:4]), 1), 1, BoxMode.XYXY_ABS
    )
    for radius in (0.0, 1.5):
        expected = assign_fcos(LEVELS, STRIDES, size_ranges((32.0,)), upright, radius)
        assert torch.equal(match(boxes, radius), expected)
        assert (expected >= 0).sum() > 10


def test_a_long_box_learns_along_its_own_direction():
    # The width's direction at 45 degrees is right and up, y pointing down.
    box = torch.tensor([[48.0, 48.0, 60.0, 8.0, 45.0]])
    points = GRID[match(box, radius=0, limits=(200.0,))[: len(GRID)] == 0] - 48
    assert len(points) >= 4
    assert (points.sum(1).abs() < 8).all()
    assert (points[:, 0] - points[:, 1]).abs().max() > 20


def test_boxes_thinner_than_a_stride_are_learned():
    boxes = torch.tensor([[x + 0.5, 40.0, 9.0, 3.0, 0.0] for x in range(8)])
    for box in boxes:
        assert (match(box[None]) == 0).any()


def test_without_boxes_all_is_background():
    assert (match(torch.empty(0, 5)) == -1).all()
