"""A greedy tracker by the IoU of boxes."""

from typing import Any

import numpy as np

from detectron2.config import CfgNode, configurable
from detectron2.structures import Instances, pairwise_iou

from .base_tracker import TRACKER_HEADS_REGISTRY
from .frame_tracker import FrameTracker, options_from_config
from .utils import create_prediction_pairs

__all__ = ["BBoxIOUTracker"]


@TRACKER_HEADS_REGISTRY.register()
class BBoxIOUTracker(FrameTracker):
    """Tracker that matches boxes greedily by IoU; unmatched detections get new identities.

    Args:
        track_iou_threshold: minimum IoU of boxes of the same object.
        kwargs: arguments of `FrameTracker`.
    """

    @configurable
    def __init__(self, *, track_iou_threshold: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._track_iou_threshold = track_iou_threshold
        self._reset_fields()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return options_from_config(cfg)

    def _reset_fields(self) -> None:
        self._matched_idx: set[int] = set()
        self._matched_prev_idx: set[int] = set()

    def update(self, instances: Instances) -> Instances:
        """Track the next frame; see `BaseTracker.update`."""
        instances = self._initialize_extra_fields(instances)
        if self._prev_instances is not None:
            self._reset_fields()
            iou_all = pairwise_iou(instances.pred_boxes, self._prev_instances.pred_boxes)
            pairs = self._create_prediction_pairs(instances, iou_all.cpu().numpy())
            for pair in sorted(pairs, key=lambda pair: -pair["IoU"]):
                self._match(instances, pair["idx"], pair["prev_idx"])
            instances = self._assign_new_id(instances)
            instances = self._merge_untracked_instances(instances)
        return self._finish_frame(instances)

    def _create_prediction_pairs(self, instances: Instances, iou_all: np.ndarray) -> list[dict]:
        return create_prediction_pairs(
            instances, self._previous(), iou_all, self._track_iou_threshold
        )

    def _match(self, instances: Instances, idx: int, prev_idx: int) -> None:
        """Match a pair unless one of the two is matched already."""
        if idx not in self._matched_idx and prev_idx not in self._matched_prev_idx:
            self._continue_track(instances, idx, prev_idx)
            self._matched_idx.add(idx)
            self._matched_prev_idx.add(prev_idx)

    def _assign_new_id(self, instances: Instances) -> Instances:
        self._start_tracks(instances, sorted(set(range(len(instances))) - self._matched_idx))
        return instances

    def _merge_untracked_instances(self, instances: Instances) -> Instances:
        return self._append_lost_instances(instances, self._matched_prev_idx)
