"""`detectron2.projects.panoptic_deeplab`: targets and grouping, by hand-computed numbers."""

import math

import numpy as np
import pytest
import torch

from d2ext._detectron2 import provider
from detectron2.config import get_cfg

# The official project imports panopticapi, which is not on PyPI.
pytest.importorskip("detectron2.projects.panoptic_deeplab", exc_type=ImportError)

from detectron2.projects.panoptic_deeplab import add_panoptic_deeplab_config
from detectron2.projects.panoptic_deeplab.post_processing import (
    find_instance_center,
    get_panoptic_segmentation,
    group_pixels,
)
from detectron2.projects.panoptic_deeplab.target_generator import PanopticDeepLabTargetGenerator

IDS = np.zeros((6, 8), np.int32)
IDS[3:] = 7  # stuff
IDS[0:3, 0:3] = 1  # a thing with its centre at (1, 1)
IDS[4:6, 6:8] = 2  # another one, at (4.5, 6.5)
SEGMENTS = [
    {"id": 7, "category_id": 0, "iscrowd": 0},
    {"id": 1, "category_id": 1, "iscrowd": 0},
    {"id": 2, "category_id": 2, "iscrowd": 0},
]


def targets(**options) -> dict:
    return PanopticDeepLabTargetGenerator(255, {1, 2}, sigma=1, **options)(IDS, SEGMENTS)


def test_the_config_has_the_published_keys():
    cfg = get_cfg()
    add_panoptic_deeplab_config(cfg)
    assert cfg.MODEL.INS_EMBED_HEAD.CENTER_LOSS_WEIGHT == 200
    assert cfg.MODEL.PANOPTIC_DEEPLAB.NMS_KERNEL == 7
    assert cfg.SOLVER.OPTIMIZER == "ADAM"


def test_centres_are_bells_and_offsets_lead_to_them():
    found = targets()
    assert found["center_points"] == [[1.0, 1.0], [4.5, 6.5]]
    assert found["center"][1, 1] == 1
    assert found["center"][1, 3] == pytest.approx(math.exp(-2))
    assert found["center"][1, 6] == pytest.approx(math.exp(-4.5))  # of the centre at (4, 6)
    assert found["offset"][:, 0, 2].tolist() == [1.0, -1.0]
    assert found["offset"][:, 5, 6].tolist() == [-0.5, 0.5]
    assert found["sem_seg"][0].tolist() == [1, 1, 1, 255, 255, 255, 255, 255]


def test_stuff_and_small_things_are_weighted_by_the_options():
    found = targets(ignore_stuff_in_offset=True, small_instance_area=5, small_instance_weight=3)
    assert found["center_weights"][0, 3, 0] == 1
    assert found["offset_weights"][0, 3, 0] == 0
    assert found["sem_seg_weights"][5, 7] == 3
    assert found["sem_seg_weights"][0, 0] == 1


def test_crowds_have_no_centre_weight_and_may_have_no_label():
    crowd = [{**SEGMENTS[1], "iscrowd": 1}]
    generator = PanopticDeepLabTargetGenerator(255, {1}, ignore_crowd_in_semantic=True)
    found = generator(IDS, crowd)
    assert found["center_weights"].sum() == found["offset_weights"].sum() == 0
    assert (found["sem_seg"] == 255).all()


def test_centres_are_local_maxima_above_the_threshold():
    heatmap = torch.zeros(1, 5, 5)
    heatmap[0, 1, 1], heatmap[0, 1, 2], heatmap[0, 4, 4] = 0.9, 0.8, 0.05
    assert find_instance_center(heatmap).tolist() == [[1, 1]]


def test_pixels_go_to_the_nearest_centre():
    centres = torch.tensor([[0, 0], [0, 7]])
    grouped = group_pixels(centres, torch.zeros(2, 1, 8))
    assert grouped.tolist() == [[[1, 1, 1, 1, 2, 2, 2, 2]]]


def test_the_targets_are_grouped_to_the_annotation():
    found = targets()
    labels = found["sem_seg"].where(found["sem_seg"] != 255, 0)[None]
    merged, centres = get_panoptic_segmentation(
        labels, found["center"][None], found["offset"], {1, 2}, 1000, 5, -1, top_k=None
    )
    assert centres.shape == (1, 2, 2)
    assert merged[0, 1, 1] == 1001
    assert merged[0, 5, 7] == 2001
    assert merged[0, 3, 0] == 0


def test_little_stuff_is_void():
    labels = torch.zeros(1, 2, 2, dtype=torch.int64)
    nothing = torch.zeros(1, 2, 2), torch.zeros(2, 2, 2)
    merged, _ = get_panoptic_segmentation(labels, *nothing, {1}, 1000, 5, -1, top_k=None)
    assert (merged == -1).all()


@pytest.mark.skipif(provider() == "official", reason="the message of the bundled runtime")
def test_maps_of_other_shapes_are_refused():
    zeros = torch.zeros(1, 2, 2)
    with pytest.raises(ValueError, match=r"offsets must be \(2, H, W\), got \(1, 2, 2\)"):
        get_panoptic_segmentation(zeros.long(), zeros, zeros, {1}, 1000, 5, -1)
