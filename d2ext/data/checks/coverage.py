"""Images without objects, or with fewer than their neighbours: what may not be labelled."""

import numpy as np

from d2ext.data.checks.subject import Subject

_COMMON = 0.9  # share of images that show a class for its absence to be told
_ENOUGH = 20  # images that a habit can be read from
_MANY = 8  # objects in the middle image for few to be told
_FEW = 4  # times fewer than in the middle image
_STEADY = 0.5  # of the middle image's objects: most images have more, or counts say nothing


def check_coverage(subject: Subject) -> None:
    """Compare the number of objects of each image with the others."""
    if subject.source.task in ("semantic", "panoptic"):
        return
    total = np.bincount(subject.owners, minlength=len(subject.images))
    counts = np.bincount(subject.owners[~subject.crowd], minlength=len(subject.images))
    for image in np.flatnonzero(total == 0):
        subject.add_image("image-without-objects", int(image), "no objects")
    for image in np.flatnonzero((counts == 0) & (total > 0)):
        subject.add_image("image-crowd-only", int(image), f"{total[image]} crowd regions")
    if np.count_nonzero(counts) >= _ENOUGH:
        _find_few(subject, counts)
        _find_lacking(subject, counts)


def _find_few(subject: Subject, counts: np.ndarray) -> None:
    filled = counts[counts > 0]
    middle = float(np.median(filled))
    if middle < _MANY or np.quantile(filled, 0.2) < _STEADY * middle:
        return
    for image in np.flatnonzero((counts > 0) & (counts * _FEW <= middle)):
        detail = f"{counts[image]} objects, {middle:.0f} in the middle image"
        subject.add_image("image-few-objects", int(image), detail)


def _find_lacking(subject: Subject, counts: np.ndarray) -> None:
    filled = counts > 0
    for number, name in enumerate(subject.source.classes):
        shows = np.zeros(len(filled), dtype=bool)
        shows[subject.owners[(subject.labels == number) & ~subject.crowd]] = True
        share = shows[filled].mean()
        if _COMMON <= share < 1:
            for image in np.flatnonzero(filled & ~shows):
                detail = f"no {name}, which {share:.0%} of the images show"
                subject.add_image("image-lacks-class", int(image), detail)
