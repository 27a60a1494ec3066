"""`detectron2.projects.point_rend`: points and colours, by hand-computed numbers."""

import random

import numpy as np
import pytest
import torch

import d2ext  # noqa: F401
from detectron2.config import get_cfg
from detectron2.projects.point_rend import ColorAugSSDTransform, add_pointrend_config
from detectron2.projects.point_rend.point_features import (
    generate_regular_grid_point_coords,
    get_point_coords_wrt_image,
    get_uncertain_point_coords_on_grid,
    get_uncertain_point_coords_with_randomness,
    point_sample,
    point_sample_fine_grained_features,
    sample_point_labels,
)
from detectron2.structures import BitMasks, Boxes, Instances


def test_add_pointrend_config_adds_the_published_keys():
    cfg = get_cfg()
    add_pointrend_config(cfg)
    assert cfg.MODEL.POINT_HEAD.TRAIN_NUM_POINTS == 196
    assert cfg.INPUT.COLOR_AUG_SSD is False


def test_point_sample_interpolates_between_pixels():
    ramp = torch.tensor([[[[0.0, 1.0, 2.0, 3.0]]]])
    points = torch.tensor([[[0.125, 0.5], [0.5, 0.5], [0.875, 0.5]]])
    assert point_sample(ramp, points, align_corners=False).tolist() == [[[0.0, 1.5, 3.0]]]
    assert point_sample(ramp, points[:, None], align_corners=False).shape == (1, 1, 1, 3)


def test_a_regular_grid_lists_cell_centres_in_row_major_order():
    grid = generate_regular_grid_point_coords(2, 2, "cpu")
    assert grid.shape == (2, 4, 2)
    assert grid[1].tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]


def test_the_most_uncertain_cells_are_selected_on_a_grid():
    indices, points = get_uncertain_point_coords_on_grid(
        torch.tensor([[[[0.0, 3.0], [2.0, 1.0]]]]), num_points=2
    )
    assert indices.tolist() == [[1, 2]]
    assert points.tolist() == [[[0.75, 0.25], [0.25, 0.75]]]


def test_training_points_are_sampled_where_the_prediction_is_uncertain():
    scores = torch.full((1, 1, 8, 8), 5.0)
    scores[..., 4:] = -5.0  # changes sign at x = 0.5
    torch.manual_seed(0)
    points = get_uncertain_point_coords_with_randomness(
        scores, lambda x: -x.abs(), num_points=40, oversample_ratio=10, importance_sample_ratio=0.25
    )
    assert points.shape == (1, 40, 2)
    far = (points[0, :, 0] - 0.5).abs()
    assert far[:10].max() < 1 / 16
    assert far[10:].max() > 0.25


def test_points_in_boxes_sample_the_features_of_their_image():
    features = torch.arange(16.0).view(2, 1, 2, 4)  # stride 4: images of 8x16 pixels
    boxes = [Boxes(torch.tensor([[0.0, 0.0, 4.0, 4.0]])), Boxes(torch.tensor([[8.0, 4, 16, 8]]))]
    middle = torch.tensor([[[0.5, 0.5]], [[0.25, 0.5]]])
    values, points = point_sample_fine_grained_features([features], [0.25], boxes, middle)
    assert points.tolist() == [[[2.0, 2.0]], [[10.0, 6.0]]]
    assert values.tolist() == [[[0.0]], [[14.0]]]
    assert torch.equal(points, get_point_coords_wrt_image(Boxes.cat(boxes).tensor, middle))


def test_point_labels_are_sampled_from_the_masks():
    image = Instances((4, 4))
    image.gt_masks = BitMasks(torch.tensor([[[1, 1, 0, 0]] * 4], dtype=torch.bool))
    points = torch.tensor([[[0.5, 0.5], [2.0, 2.0], [3.5, 3.5]]])
    assert sample_point_labels([image], points).tolist() == [[1.0, 0.5, 0.0]]


def test_colours_without_a_range_do_not_change():
    same = {"brightness_delta": 0, "contrast_low": 1, "contrast_high": 1, "saturation_low": 1}
    change = ColorAugSSDTransform("BGR", **same, saturation_high=1, hue_delta=0)
    grey = np.full((2, 3, 3), 77, np.uint8)  # exact through HSV
    for seed in range(8):
        random.seed(seed)
        assert np.array_equal(change.apply_image(grey), grey)


@pytest.mark.parametrize(("seed", "total"), [(0, 7329), (1, 10940), (2, 5840)])
def test_colours_with_a_seed_match_detectron2(seed: int, total: int):
    image = np.random.RandomState(0).randint(0, 256, (4, 5, 3)).astype(np.uint8)
    random.seed(seed)
    assert ColorAugSSDTransform("RGB").apply_image(image).sum(dtype=int) == total


def test_colour_augmentation_does_not_change_labels_and_coordinates():
    labels = np.zeros((4, 4))
    assert ColorAugSSDTransform("RGB").apply_segmentation(labels) is labels
    assert ColorAugSSDTransform("RGB").apply_coords(labels) is labels
