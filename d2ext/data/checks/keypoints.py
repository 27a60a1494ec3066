"""Keypoint checks: their number, their values and where they are."""

import numpy as np

from d2ext.data.checks.context import CheckContext
from d2ext.data.keypoint_validity import invalid_keypoints, keypoint_count


def check_keypoints(context: CheckContext) -> None:
    """Check the keypoints of each object that has some."""
    count = keypoint_count(context.split.metadata.get("keypoint_names"), context.objects)
    for number, item in enumerate(context.objects):
        values = item.get("keypoints")
        if values:
            _check(context, number, values, count)


def _check(context: CheckContext, number: int, values: object, count: int) -> None:
    if problem := invalid_keypoints(values, count):
        context.add_object(problem[0], number, problem[1])
        return
    points = np.array(values, dtype=np.float64).reshape(-1, 3)
    outside = (points[:, :2] < 0) | (points[:, :2] > context.frames[number])
    wrong = np.flatnonzero(outside.any(1) & (points[:, 2] > 0))
    if len(wrong):
        context.add_object("keypoint-outside", number, f"{points[wrong[0], :2].tolist()}")
