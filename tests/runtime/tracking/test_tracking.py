"""`detectron2.tracking`: identities over consecutive frames."""

import numpy as np
import pytest
import torch

from d2ext._detectron2 import provider
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances
from detectron2.tracking import (
    BBoxIOUTracker,
    IOUWeightedHungarianBBoxIOUTracker,
    VanillaHungarianBBoxIOUTracker,
    build_tracker_head,
)

TRACKERS = [BBoxIOUTracker, VanillaHungarianBBoxIOUTracker, IOUWeightedHungarianBBoxIOUTracker]
A, B, C = [0, 0, 20, 20], [40, 40, 80, 80], [60, 0, 90, 20]


def frame(*boxes):
    instances = Instances((100, 100))
    instances.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.scores = torch.full((len(boxes),), 0.5)
    instances.pred_classes = torch.zeros(len(boxes), dtype=torch.int64)
    instances.pred_masks = torch.zeros(len(boxes), 100, 100, dtype=torch.bool)
    return instances


def shifted(box, by=1):
    return [side + by for side in box]


@pytest.fixture(params=TRACKERS)
def tracker(request):
    return request.param(video_height=100, video_width=100, max_lost_frame_count=1)


def test_every_object_in_the_first_frame_gets_an_identity(tracker):
    assert tracker.update(frame(A, B)).ID == [0, 1]


def test_matched_objects_keep_their_identity_and_others_get_a_new_one(tracker):
    tracker.update(frame(A, B))
    found = tracker.update(frame(shifted(B), C, shifted(A)))
    assert found.ID == [1, 2, 0]
    assert found.ID_period == [2, 1, 2]


def test_a_lost_object_seen_twice_is_kept(tracker):
    tracker.update(frame(A, B))
    tracker.update(frame(A, B, C))
    found = tracker.update(frame(B))
    # C was seen only once.
    assert (found.ID, found.lost_frame_count) == ([1, 0], [0, 1])
    assert found.pred_boxes.tensor.tolist() == [B, A]
    assert tracker.update(frame(B, shifted(A))).ID == [1, 0]


def test_a_lost_object_is_dropped_after_the_maximum_of_lost_frames(tracker):
    for boxes in ([A, B], [A, B], [B], [B]):
        found = tracker.update(frame(*boxes))
    assert found.ID == [1]
    assert tracker.update(frame(B, A)).ID == [1, 2]


def test_tiny_lost_objects_are_not_kept(tracker):
    tiny = [10, 10, 11, 50]
    for boxes in ([tiny, B], [tiny, B], [B]):
        found = tracker.update(frame(*boxes))
    assert found.ID == [1]


def test_frames_can_be_empty(tracker):
    tracker.update(frame(A))
    assert tracker.update(frame()).ID == []
    assert tracker.update(frame(A)).ID == [1]


@pytest.mark.skipif(provider() == "official", reason="the official one cuts costs to integers")
def test_the_cost_matrix_counts_or_weights_matches():
    options = {"video_height": 100, "video_width": 100}
    before = BBoxIOUTracker(**options).update(frame(A, B))
    now = frame(A, [0, 0, 20, 15], C)
    expected = {VanillaHungarianBBoxIOUTracker: -1, IOUWeightedHungarianBBoxIOUTracker: -0.75}
    for kind, cost in expected.items():
        tracker = kind(**options)
        tracker.update(before)
        found = tracker.build_cost_matrix(now, before)
        np.testing.assert_allclose(found, [[-1, 1e5], [cost, 1e5], [1e5, 1e5]])


@pytest.mark.parametrize("kind", TRACKERS)
def test_a_tracker_is_built_from_a_config(kind):
    cfg = CfgNode()
    cfg.TRACKER_HEADS = CfgNode(
        {
            "TRACKER_NAME": kind.__name__,
            "VIDEO_HEIGHT": 10,
            "VIDEO_WIDTH": 20,
            "MAX_NUM_INSTANCES": 200,
            "MAX_LOST_FRAME_COUNT": 0,
            "MIN_BOX_REL_DIM": 0.02,
            "MIN_INSTANCE_PERIOD": 1,
            "TRACK_IOU_THRESHOLD": 0.5,
        }
    )
    assert type(build_tracker_head(cfg)) is kind
