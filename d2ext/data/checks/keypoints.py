"""Keypoints: their number, their values and where they are."""

import numpy as np

from d2ext.data.checks.subject import Subject


def check_keypoints(subject: Subject) -> None:
    """Look at the keypoints of each object that has some."""
    names = subject.source.metadata.get("keypoint_names")
    for number, item in enumerate(subject.objects):
        values = item.get("keypoints")
        if values:
            _check(subject, number, values, names)


def _are_numbers(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(n, (int, float)) for n in values)


def _check(subject: Subject, number: int, values: list[float], names: list[str] | None) -> None:
    if not _are_numbers(values):
        subject.add_object("keypoint-value", number, f"{values!r}"[:60])
        return
    if len(values) % 3 or (names and len(values) != 3 * len(names)):
        expected = f", {3 * len(names)} expected" if names else ", no multiple of three"
        subject.add_object("keypoint-count", number, f"{len(values)} numbers{expected}")
        return
    points = np.array(values, dtype=np.float64).reshape(-1, 3)
    if not np.isfinite(points).all() or not np.isin(points[:, 2], (0, 1, 2)).all():
        subject.add_object("keypoint-value", number, f"{values!r}"[:60])
        return
    outside = (points[:, :2] < 0) | (points[:, :2] > subject.frames[number])
    wrong = np.flatnonzero(outside.any(1) & (points[:, 2] > 0))
    if len(wrong):
        subject.add_object("keypoint-outside", number, f"{points[wrong[0], :2].tolist()}")
