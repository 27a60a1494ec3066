"""A Hungarian tracker that maximises the number of matched boxes."""

from typing import Any

import numpy as np

from detectron2.config import CfgNode, configurable
from detectron2.structures import Instances, pairwise_iou

from .base_tracker import TRACKER_HEADS_REGISTRY
from .frame_tracker import options_from_config
from .hungarian_tracker import BaseHungarianTracker
from .utils import LARGE_COST_VALUE, create_prediction_pairs

__all__ = ["VanillaHungarianBBoxIOUTracker"]


@TRACKER_HEADS_REGISTRY.register()
class VanillaHungarianBBoxIOUTracker(BaseHungarianTracker):
    """Tracker with the maximum number of matches, whatever their IoU above the threshold.

    Args:
        track_iou_threshold: minimum IoU of boxes of the same object.
        kwargs: arguments of `FrameTracker`.
    """

    @configurable
    def __init__(self, *, track_iou_threshold: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._track_iou_threshold = track_iou_threshold

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return options_from_config(cfg)

    def build_cost_matrix(self, instances: Instances, prev_instances: Instances) -> np.ndarray:
        """Return the (N, M) costs; `LARGE_COST_VALUE` for pairs below the IoU threshold."""
        iou_all = pairwise_iou(instances.pred_boxes, prev_instances.pred_boxes).cpu().numpy()
        pairs = create_prediction_pairs(
            instances, prev_instances, iou_all, threshold=self._track_iou_threshold
        )
        costs = np.full((len(instances), len(prev_instances)), LARGE_COST_VALUE, dtype=float)
        return self.assign_cost_matrix_values(costs, pairs)

    def assign_cost_matrix_values(
        self, cost_matrix: np.ndarray, bbox_pairs: list[dict]
    ) -> np.ndarray:
        """Set the cost of each pair to -1, in place."""
        for pair in bbox_pairs:
            cost_matrix[pair["idx"], pair["prev_idx"]] = -1
        return cost_matrix
