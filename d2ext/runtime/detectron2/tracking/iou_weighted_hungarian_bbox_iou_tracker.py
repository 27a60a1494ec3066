"""A Hungarian tracker that maximises the sum of the IoU of boxes."""

import numpy as np

from .base_tracker import TRACKER_HEADS_REGISTRY
from .vanilla_hungarian_bbox_iou_tracker import VanillaHungarianBBoxIOUTracker

__all__ = ["IOUWeightedHungarianBBoxIOUTracker"]


@TRACKER_HEADS_REGISTRY.register()
class IOUWeightedHungarianBBoxIOUTracker(VanillaHungarianBBoxIOUTracker):
    """Tracker with the maximum sum of IoU over matches; see `VanillaHungarianBBoxIOUTracker`."""

    def assign_cost_matrix_values(
        self, cost_matrix: np.ndarray, bbox_pairs: list[dict]
    ) -> np.ndarray:
        """Set the cost of each pair to its negative IoU, in place."""
        for pair in bbox_pairs:
            cost_matrix[pair["idx"], pair["prev_idx"]] = -1 * pair["IoU"]
        return cost_matrix
