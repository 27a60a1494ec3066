"""A Hungarian tracker that sums the overlap of boxes."""

import numpy as np

from .base_tracker import TRACKER_HEADS_REGISTRY
from .vanilla_hungarian_bbox_iou_tracker import VanillaHungarianBBoxIOUTracker

__all__ = ["IOUWeightedHungarianBBoxIOUTracker"]


@TRACKER_HEADS_REGISTRY.register()
class IOUWeightedHungarianBBoxIOUTracker(VanillaHungarianBBoxIOUTracker):
    """The matches with the largest sum of IoU; see `VanillaHungarianBBoxIOUTracker`."""

    def assign_cost_matrix_values(
        self, cost_matrix: np.ndarray, bbox_pairs: list[dict]
    ) -> np.ndarray:
        """Set the cost of each pair to its IoU, negative, in place."""
        for pair in bbox_pairs:
            cost_matrix[pair["idx"], pair["prev_idx"]] = -1 * pair["IoU"]
        return cost_matrix
