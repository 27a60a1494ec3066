"""A Hungarian tracker that sums the overlap of boxes."""

from typing import Any

import numpy as np

from detectron2.config import CfgNode, configurable

from .base_tracker import TRACKER_HEADS_REGISTRY
from .frame_tracker import options_from_config
from .vanilla_hungarian_bbox_iou_tracker import VanillaHungarianBBoxIOUTracker

__all__ = ["IOUWeightedHungarianBBoxIOUTracker"]


@TRACKER_HEADS_REGISTRY.register()
class IOUWeightedHungarianBBoxIOUTracker(VanillaHungarianBBoxIOUTracker):
    """The matches with the largest sum of IoU; see `VanillaHungarianBBoxIOUTracker`."""

    @configurable
    def __init__(
        self,
        *,
        video_height: int,
        video_width: int,
        max_num_instances: int = 200,
        max_lost_frame_count: int = 0,
        min_box_rel_dim: float = 0.02,
        min_instance_period: int = 1,
        track_iou_threshold: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            video_height=video_height,
            video_width=video_width,
            max_num_instances=max_num_instances,
            max_lost_frame_count=max_lost_frame_count,
            min_box_rel_dim=min_box_rel_dim,
            min_instance_period=min_instance_period,
            track_iou_threshold=track_iou_threshold,
            **kwargs,
        )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return options_from_config(cfg)

    def assign_cost_matrix_values(
        self, cost_matrix: np.ndarray, bbox_pairs: list[dict]
    ) -> np.ndarray:
        """Set the cost of each pair to its IoU, negative, in place."""
        for pair in bbox_pairs:
            cost_matrix[pair["idx"], pair["prev_idx"]] = -1 * pair["IoU"]
        return cost_matrix
