"""RoI pooling: assignment of levels, and pooled features."""

import pytest
import torch

import d2ext  # noqa: F401
from d2ext._detectron2 import provider
from detectron2.modeling.poolers import ROIPooler, assign_boxes_to_levels
from detectron2.structures import Boxes, RotatedBoxes


def square(side: float) -> list[float]:
    return [0.0, 0.0, side, side]


def test_a_box_is_assigned_to_the_level_of_its_size():
    boxes = Boxes(torch.tensor([square(s) for s in (10, 112, 223, 224, 448, 5000)]))
    levels = assign_boxes_to_levels([boxes], 2, 5, 224, 4)
    assert levels.tolist() == [0, 1, 1, 2, 3, 3]


@pytest.mark.parametrize("kind", ["ROIAlign", "ROIAlignV2", "ROIPool"])
def test_every_region_is_pooled_from_its_image_and_level(kind: str):
    maps = [torch.full((2, 1, size, size), float(size)) for size in (64, 32, 16, 8)]
    for level in maps:
        level[1] *= -1
    pooler = ROIPooler(2, scales=[1 / 4, 1 / 8, 1 / 16, 1 / 32], sampling_ratio=2, pooler_type=kind)
    boxes = [Boxes(torch.tensor([square(20), square(230)])), Boxes(torch.tensor([square(120)]))]
    assert pooler(maps, boxes)[:, 0, 0, 0].tolist() == [64, 16, -32]


def test_a_single_level_pools_every_region():
    pooler = ROIPooler((3, 3), scales=[1 / 16], sampling_ratio=0, pooler_type="ROIAlignV2")
    pooled = pooler([torch.ones(1, 5, 16, 16)], [Boxes(torch.tensor([square(9), square(250)]))])
    assert pooled.shape == (2, 5, 3, 3)


def test_pooling_no_regions_is_empty():
    pooler = ROIPooler(3, scales=[1 / 4, 1 / 8], sampling_ratio=0, pooler_type="ROIAlignV2")
    maps = [torch.ones(1, 5, 16, 16), torch.ones(1, 5, 8, 8)]
    assert pooler(maps, [Boxes(torch.zeros(0, 4))]).shape == (0, 5, 3, 3)


@pytest.mark.skipif(provider() == "official", reason="the official one raises")
def test_pooled_features_need_not_be_square():
    pooler = ROIPooler((2, 5), scales=[1 / 4, 1 / 8], sampling_ratio=0, pooler_type="ROIAlignV2")
    maps = [torch.ones(1, 3, 16, 16), torch.ones(1, 3, 8, 8)]
    assert pooler(maps, [Boxes(torch.tensor([square(9)]))]).shape == (1, 3, 2, 5)


def test_rotated_pooling_of_upright_boxes_equals_roi_align():
    torch.manual_seed(0)
    maps = [torch.rand(2, 3, 32, 32), torch.rand(2, 3, 16, 16)]
    corners = torch.tensor([[3.0, 5, 60, 70], [10, 20, 90, 44], [0, 0, 120, 120]])
    upright = [Boxes(corners), Boxes(corners[:1])]
    centres, sizes = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    turned = torch.cat([centres, sizes, torch.zeros(3, 1)], dim=1)
    rotated = [RotatedBoxes(turned), RotatedBoxes(turned[:1])]
    poolers = [
        ROIPooler(4, scales=[1 / 4, 1 / 8], sampling_ratio=0, pooler_type=kind)
        for kind in ("ROIAlignV2", "ROIAlignRotated")
    ]
    torch.testing.assert_close(
        poolers[1](maps, rotated), poolers[0](maps, upright), atol=1e-4, rtol=1e-4
    )


def test_rotating_a_box_by_90_degrees_rotates_its_features():
    features = torch.rand(1, 2, 16, 16)
    pooler = ROIPooler(4, scales=[1 / 4], sampling_ratio=2, pooler_type="ROIAlignRotated")
    box = torch.tensor([[32.0, 32, 40, 40, 0]])
    upright = pooler([features], [RotatedBoxes(box)])
    box[:, 4] = 90
    turned = pooler([features], [RotatedBoxes(box)])
    torch.testing.assert_close(turned, upright.rot90(-1, dims=(2, 3)), atol=1e-5, rtol=1e-4)


def test_gradients_reach_the_features_of_a_rotated_pooler():
    features = torch.rand(1, 2, 16, 16, requires_grad=True)
    pooler = ROIPooler(2, scales=[1 / 4], sampling_ratio=2, pooler_type="ROIAlignRotated")
    boxes = [RotatedBoxes(torch.tensor([[32.0, 32, 40, 20, 30]]))]
    pooler([features], boxes).sum().backward()
    assert features.grad.sum().item() == pytest.approx(2 * 4, rel=1e-4)  # the bins are means
