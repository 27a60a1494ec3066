"""Keypoints that no model can learn from: another number than their class has, or no numbers."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


def keypoint_count(names: Sequence[str] | None, objects: Iterable[dict[str, Any]]) -> int:
    """Return the number of keypoints: that of their names, else the one most objects have."""
    if names:
        return len(names)
    points = (item.get("keypoints") for item in objects)
    counts = Counter(len(each) // 3 for each in points if isinstance(each, list) and each)
    return max(counts, key=counts.__getitem__, default=0)


def invalid_keypoints(values: object, count: int) -> tuple[str, str] | None:
    """Find what is wrong with the keypoints of an object.

    Args:
        values: x, y in pixels and visibility (0, 1 or 2) of each point, in one list.
        count: number of keypoints that the data set has; 0: any.
    Returns:
        The code of the issue, "keypoint-count" or "keypoint-value", and its detail; None for valid
        keypoints.
    """
    if not isinstance(values, list) or not all(isinstance(n, (int, float)) for n in values):
        return "keypoint-value", f"{values!r}"[:60]
    if len(values) % 3 or (count and len(values) != 3 * count):
        expected = f", {3 * count} expected" if count else ", no multiple of three"
        return "keypoint-count", f"{len(values)} numbers{expected}"
    points = np.array(values, dtype=np.float64).reshape(-1, 3)
    if not np.isfinite(points).all() or not np.isin(points[:, 2], (0, 1, 2)).all():
        return "keypoint-value", f"{values!r}"[:60]
    return None
