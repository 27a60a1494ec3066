"""Trackers by optimal assignment: all detections of two frames are matched at minimum cost.

Source: Kuhn 1955, "The Hungarian method for the assignment problem".
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

from detectron2.structures import Instances

from .frame_tracker import FrameTracker, unmatched

__all__ = ["BaseHungarianTracker"]


class BaseHungarianTracker(FrameTracker):
    """Base of the Hungarian trackers; a subclass defines the cost matrix. See `FrameTracker`."""

    def build_cost_matrix(self, instances: Instances, prev_instances: Instances) -> np.ndarray:
        """Return the (N, M) cost of matching detections of this frame to the previous one."""
        raise NotImplementedError("Hungarian trackers implement build_cost_matrix.")

    def update(self, instances: Instances) -> Instances:
        """Track the next frame; see `BaseTracker.update`."""
        instances = self._initialize_extra_fields(instances)
        if self._prev_instances is not None:
            costs = self.build_cost_matrix(instances, self._prev_instances)
            matched_idx, matched_prev_idx = linear_sum_assignment(costs)
            instances = self._process_matched_idx(instances, matched_idx, matched_prev_idx)
            instances = self._process_unmatched_idx(instances, matched_idx)
            instances = self._process_unmatched_prev_idx(instances, matched_prev_idx)
        return self._finish_frame(instances)

    def _process_matched_idx(
        self, instances: Instances, matched_idx: np.ndarray, matched_prev_idx: np.ndarray
    ) -> Instances:
        for idx, prev_idx in zip(matched_idx.tolist(), matched_prev_idx.tolist(), strict=True):
            self._continue_track(instances, idx, prev_idx)
        return instances

    def _process_unmatched_idx(self, instances: Instances, matched_idx: np.ndarray) -> Instances:
        self._start_tracks(instances, unmatched(len(instances), matched_idx))
        return instances

    def _process_unmatched_prev_idx(
        self, instances: Instances, matched_prev_idx: np.ndarray
    ) -> Instances:
        return self._append_lost_instances(instances, matched_prev_idx.tolist())
