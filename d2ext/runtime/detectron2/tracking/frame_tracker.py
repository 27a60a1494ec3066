"""Base of the trackers that match two consecutive frames."""

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np

from detectron2.config import CfgNode, configurable
from detectron2.structures import Instances

from .base_tracker import BaseTracker

__all__ = ["FrameTracker"]


class FrameTracker(BaseTracker):
    """Tracker state: the instances of the previous frame, of which lost ones are kept for a while.

    Instances have ID, ID_period (frames in which it was found) and lost_frame_count (frames since).

    Args:
        video_height, video_width: size of a frame in pixels.
        max_num_instances: maximum number of identities; kept for subclasses.
        max_lost_frame_count: number of frames for which a lost instance is kept.
        min_box_rel_dim: minimum side, relative to the frame, of a lost instance that is kept.
        min_instance_period: lost instances found in this many frames or fewer are dropped.
    """

    @configurable
    def __init__(
        self,
        video_height: int,
        video_width: int,
        max_num_instances: int = 200,
        max_lost_frame_count: int = 0,
        min_box_rel_dim: float = 0.02,
        min_instance_period: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._video_height = video_height
        self._video_width = video_width
        self._max_num_instances = max_num_instances
        self._max_lost_frame_count = max_lost_frame_count
        self._min_box_rel_dim = min_box_rel_dim
        self._min_instance_period = min_instance_period

    def _initialize_extra_fields(self, instances: Instances) -> Instances:
        """Add the tracking fields; in a first frame every instance gets an identity."""
        count = len(instances)
        defaults = {"ID": None, "ID_period": 1, "lost_frame_count": 0}
        for name, value in defaults.items():
            if not instances.has(name):
                instances.set(name, [value] * count)
        if self._prev_instances is None:
            instances.ID = [self._new_id() for _ in range(count)]
        return instances

    def _new_id(self) -> int:
        self._id_count += 1
        return self._id_count - 1

    def _continue_track(self, instances: Instances, idx: int, prev_idx: int) -> None:
        """Assign the identity of `prev_idx` in the previous frame to the detection `idx`."""
        previous = self._previous()
        instances.ID[idx] = previous.ID[prev_idx]
        instances.ID_period[idx] = previous.ID_period[prev_idx] + 1
        instances.lost_frame_count[idx] = 0

    def _start_tracks(self, instances: Instances, indices: Iterable[int]) -> None:
        """Assign new identities."""
        for idx in indices:
            instances.ID[idx] = self._new_id()
            instances.ID_period[idx] = 1
            instances.lost_frame_count[idx] = 0

    def _previous(self) -> Instances:
        if self._prev_instances is None:
            raise AssertionError("there is no frame before")
        return self._prev_instances

    def _append_lost_instances(self, instances: Instances, found: Iterable[int]) -> Instances:
        """Append the lost instances that are kept, which excludes those `found` again."""
        previous, found = self._previous(), set(found)
        lost = [i for i in range(len(previous)) if i not in found and self._is_kept_while_lost(i)]
        if not lost:
            return instances
        kept = Instances(instances.image_size)
        for name in instances.get_fields():
            value = previous.get(name)
            kept.set(name, [value[i] for i in lost] if isinstance(value, list) else value[lost])
        kept.lost_frame_count = [count + 1 for count in kept.lost_frame_count]
        return Instances.cat([instances, kept])

    def _is_kept_while_lost(self, prev_idx: int) -> bool:
        previous = self._previous()
        left, top, right, bottom = previous.pred_boxes.tensor[prev_idx].tolist()
        return (
            (right - left) / self._video_width >= self._min_box_rel_dim
            and (bottom - top) / self._video_height >= self._min_box_rel_dim
            and previous.lost_frame_count[prev_idx] < self._max_lost_frame_count
            and previous.ID_period[prev_idx] > self._min_instance_period
        )

    def _finish_frame(self, instances: Instances) -> Instances:
        self._prev_instances = copy.deepcopy(instances)
        return instances


def options_from_config(cfg: CfgNode) -> dict[str, Any]:
    """Return the constructor's arguments from `cfg.TRACKER_HEADS`."""
    names = ("video_height", "video_width", "max_num_instances", "max_lost_frame_count")
    names += ("min_box_rel_dim", "min_instance_period", "track_iou_threshold")
    return {name: cfg.TRACKER_HEADS[name.upper()] for name in names}


def unmatched(count: int, matched: np.ndarray) -> list[int]:
    """Return the indices below `count` that are not in `matched`."""
    return sorted(set(range(count)) - set(matched.tolist()))
