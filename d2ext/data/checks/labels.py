"""Semantic masks: one file beside its image, and all of them together."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from d2ext.data.checks.subject import Subject
from d2ext.data.image_info import ImageInfo, LabelInfo

_MUCH = 0.01  # share of ignored pixels that is told
_RARE = 0.001  # share of all pixels


def check_labels(subject: Subject, probes: Mapping[Path, LabelInfo]) -> None:
    """Compare label images with images and classes, and count the pixels of each class.

    Args:
        probes: of all label images of the subject, by path.
    """
    totals = np.zeros(len(subject.source.classes) or 1, dtype=np.int64)
    ignored = np.zeros(len(subject.images))
    for number, item in enumerate(subject.images):
        found = probes[Path(item["sem_seg_file_name"])]
        if found.problem:
            subject.add_image(found.problem, number, f"{item['annotated_in']}: {found.detail}")
            continue
        ignored[number] = _check_file(subject, number, found, totals)
    _find_much_ignored(subject, ignored)
    for name, count in zip(subject.source.classes, totals, strict=False):
        _check_share(subject, name, int(count), max(1, int(totals.sum())))


def check_segment_maps(subject: Subject, probes: Mapping[Path, ImageInfo]) -> None:
    """Compare the segment maps of panoptic data with their images.

    Args:
        probes: of all maps of the subject, by path.
    """
    for number, item in enumerate(subject.images):
        found = probes[Path(item["pan_seg_file_name"])]
        stated = (item["width"], item["height"])
        if found.problem:
            detail = f"{item['pan_seg_file_name']}: {found.detail}"
            subject.add_image("labels-missing", number, detail)
        elif found.size != stated:
            detail = f"{found.size[0]} x {found.size[1]}, the image {stated[0]} x {stated[1]}"
            subject.add_image("labels-size", number, f"{item['pan_seg_file_name']}: {detail}")


def _check_file(
    subject: Subject, number: int, found: LabelInfo, totals: NDArray[np.int64]
) -> float:
    """Tell what is wrong with one; the share of its pixels that are ignored."""
    item = subject.images[number]
    stated = (item["width"], item["height"])
    if found.size != stated:
        detail = f"{found.size[0]} x {found.size[1]}, the image {stated[0]} x {stated[1]}"
        subject.add_image("labels-size", number, f"{item['annotated_in']}: {detail}")
    ignored = 0
    for value, count in zip(found.values, found.counts, strict=True):
        if value == subject.source.ignore_label:
            ignored = count
        elif 0 <= value < len(subject.source.classes):
            totals[value] += count
    return ignored / max(1, sum(found.counts))


def _find_much_ignored(subject: Subject, ignored: NDArray[np.float64]) -> None:
    for number in np.flatnonzero(ignored == 1):
        detail = f"{subject.images[number]['annotated_in']}: every pixel"
        subject.add_image("labels-ignored", int(number), detail)
    for number in np.flatnonzero((ignored < 1) & (ignored > _MUCH)):
        detail = f"{subject.images[number]['annotated_in']}: {ignored[number]:.1%} of the pixels"
        subject.add_image("labels-much-ignored", int(number), detail)


def _check_share(subject: Subject, name: str, count: int, total: int) -> None:
    where = str(subject.source.path)
    if count == 0:
        subject.add("class-unused", where, f"{name!r}: no pixel")
    elif count < _RARE * total:
        subject.add("class-rare", where, f"{name!r}: {count / total:.3%} of the pixels")
