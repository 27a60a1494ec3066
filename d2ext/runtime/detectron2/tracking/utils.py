"""Candidate pairs of detections in consecutive frames."""

from typing import Any

import numpy as np

from detectron2.structures import Instances

__all__ = ["LARGE_COST_VALUE", "create_prediction_pairs"]

# Cost of pairs below the IoU threshold. It is finite, as in Detectron2: without an alternative such
# pairs are matched all the same.
LARGE_COST_VALUE = 100000


def create_prediction_pairs(
    instances: Instances, prev_instances: Instances, iou_all: np.ndarray, threshold: float = 0.5
) -> list[dict[str, Any]]:
    """Return the pairs of detections with sufficient IoU.

    Args:
        instances: instances of this frame.
        prev_instances: instances of the previous frame, with ID and ID_period.
        iou_all: (N, M) IoU of their boxes.
        threshold: minimum IoU of a pair.

    Returns:
        One dict per pair: "idx" and "prev_idx", the positions in the frames; "prev_id" and
        "prev_period" of the latter; and "IoU".
    """
    return [
        {
            "idx": idx,
            "prev_idx": prev_idx,
            "prev_id": prev_instances.ID[prev_idx],
            "IoU": iou_all[idx, prev_idx],
            "prev_period": prev_instances.ID_period[prev_idx],
        }
        for idx in range(len(instances))
        for prev_idx in range(len(prev_instances))
        if iou_all[idx, prev_idx] >= threshold
    ]
