"""The interface of trackers, and their registry."""

from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.structures import Instances
from detectron2.utils.registry import Registry

__all__ = ["TRACKER_HEADS_REGISTRY", "BaseTracker", "build_tracker_head"]

TRACKER_HEADS_REGISTRY = Registry("TRACKER_HEADS")
TRACKER_HEADS_REGISTRY.__doc__ = "Trackers by name, for `TRACKER_HEADS.TRACKER_NAME`."


class BaseTracker:
    """Base class of trackers, which assign the identities of the previous frame to detections."""

    @configurable
    def __init__(self, **kwargs: Any) -> None:
        self._prev_instances: Instances | None = None
        self._id_count = 0

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        raise NotImplementedError("Trackers that are built from a config implement from_config.")

    def update(self, predictions: Instances) -> Instances:
        """Track the detections of the next frame.

        Args:
            predictions: with pred_boxes, scores, pred_classes and maybe pred_masks, pred_keypoints.

        Returns:
            The instances with ID, a list of numbers, and the lost ones that are still kept.
        """
        raise NotImplementedError("Trackers implement update.")


def build_tracker_head(cfg: CfgNode) -> BaseTracker:
    """Build the tracker that `cfg.TRACKER_HEADS` configures."""
    return TRACKER_HEADS_REGISTRY.get(cfg.TRACKER_HEADS.TRACKER_NAME)(cfg)
