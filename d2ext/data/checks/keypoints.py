"""Keypoint checks: their number, their values and where they are."""

import numpy as np

from d2ext.data.checks.context import CheckContext


def check_keypoints(context: CheckContext) -> None:
    """Check the keypoints of each object that has some."""
    names = context.split.metadata.get("keypoint_names")
    for number, item in enumerate(context.objects):
        values = item.get("keypoints")
        if values:
            _check(context, number, values, names)


def _check(context: CheckContext, number: int, values: object, names: list[str] | None) -> None:
    if not _are_numbers(values):
        context.add_object("keypoint-value", number, f"{values!r}"[:60])
        return
    assert isinstance(values, list)
    if len(values) % 3 or (names and len(values) != 3 * len(names)):
        expected = f", {3 * len(names)} expected" if names else ", no multiple of three"
        context.add_object("keypoint-count", number, f"{len(values)} numbers{expected}")
        return
    points = np.array(values, dtype=np.float64).reshape(-1, 3)
    if not np.isfinite(points).all() or not np.isin(points[:, 2], (0, 1, 2)).all():
        context.add_object("keypoint-value", number, f"{values!r}"[:60])
        return
    outside = (points[:, :2] < 0) | (points[:, :2] > context.frames[number])
    wrong = np.flatnonzero(outside.any(1) & (points[:, 2] > 0))
    if len(wrong):
        context.add_object("keypoint-outside", number, f"{points[wrong[0], :2].tolist()}")


def _are_numbers(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(n, (int, float)) for n in values)
