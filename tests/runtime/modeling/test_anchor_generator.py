"""Anchor generators."""

import pytest
import torch

import d2ext  # noqa: F401
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_anchor_generator
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator, RotatedAnchorGenerator


def test_anchors_have_the_area_of_the_size_and_the_ratio_of_height_to_width():
    generator = DefaultAnchorGenerator(sizes=[[32]], aspect_ratios=[[0.25, 4]], strides=[4])
    cell = generator.generate_cell_anchors((32,), (0.25, 4))
    torch.testing.assert_close(cell, torch.tensor([[-32.0, -8, 32, 8], [-8, -32, 8, 32]]))


def test_anchors_are_in_row_major_order_of_positions():
    generator = DefaultAnchorGenerator(
        sizes=[[2, 4]], aspect_ratios=[[1]], strides=[10], offset=0.5
    )
    (anchors,) = generator([torch.zeros(1, 1, 2, 2)])
    centres = (anchors.tensor[:, :2] + anchors.tensor[:, 2:]) / 2
    assert centres[::2].tolist() == [[5, 5], [15, 5], [5, 15], [15, 15]]
    assert anchors.area().tolist() == [4, 16] * 4


def test_without_offset_the_first_centre_is_the_corner_of_the_image():
    generator = DefaultAnchorGenerator(sizes=[[2]], aspect_ratios=[[1]], strides=[4], offset=0.0)
    (anchors,) = generator([torch.zeros(1, 1, 1, 2)])
    assert anchors.tensor.tolist() == [[-1, -1, 1, 1], [3, -1, 5, 1]]


def test_one_list_of_sizes_applies_to_all_levels():
    generator = DefaultAnchorGenerator(
        sizes=[[8, 16]], aspect_ratios=[[0.5, 1, 2]], strides=[4, 8, 16]
    )
    assert generator.num_anchors == generator.num_cell_anchors == [6, 6, 6]
    assert generator.box_dim == 4


def test_anchors_move_with_the_module_but_are_not_in_the_state_dict():
    generator = DefaultAnchorGenerator(sizes=[[8]], aspect_ratios=[[1]], strides=[4])
    assert generator.state_dict() == {}
    assert next(iter(generator.double().cell_anchors)).dtype == torch.float64


def test_the_config_defines_sizes_ratios_and_offset():
    cfg = get_cfg()
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[4], [8]]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[1.0]]
    generator = build_anchor_generator(cfg, [ShapeSpec(stride=2), ShapeSpec(stride=4)])
    assert isinstance(generator, DefaultAnchorGenerator)
    boxes = generator([torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)])
    assert [b.tensor.tolist() for b in boxes] == [[[-2, -2, 2, 2]], [[-4, -4, 4, 4]]]


def test_an_offset_of_one_stride_is_refused():
    with pytest.raises((ValueError, AssertionError)):
        DefaultAnchorGenerator(sizes=[[8]], aspect_ratios=[[1]], strides=[4], offset=1.0)


def test_rotated_anchors_come_in_every_angle():
    generator = RotatedAnchorGenerator(
        sizes=[[32]], aspect_ratios=[[0.25, 1]], strides=[4], angles=[[0, 45]], offset=0.0
    )
    (anchors,) = generator([torch.zeros(1, 1, 1, 2)])
    cell = [[64, 16, 0], [64, 16, 45], [32, 32, 0], [32, 32, 45]]
    assert anchors.tensor.tolist() == [[x, 0, *shape] for x in (0, 4) for shape in cell]
    assert (generator.num_anchors, generator.box_dim) == ([4], 5)


def test_the_config_defines_angles_for_all_levels():
    cfg = get_cfg()
    cfg.MODEL.ANCHOR_GENERATOR.NAME = "RotatedAnchorGenerator"
    cfg.MODEL.ANCHOR_GENERATOR.ANGLES = [-30, 0, 30]
    generator = build_anchor_generator(cfg, [ShapeSpec(stride=2), ShapeSpec(stride=4)])
    assert generator.num_anchors == [5 * 3 * 3] * 2
