"""Refusals of data sets: where half of the images, files or objects are unusable, all are refused.

Something larger is wrong with them then, and a training on the rest would hide it. All functions
raise a DataError, or do nothing.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from d2ext.data.box_validity import wrong_unit
from d2ext.data.formats.dataset_split import DatasetSplit, image_root
from d2ext.data.issues import Issue
from d2ext.errors import DataError
from d2ext.text import first_few

# Codes of records that readers leave out.
_RECORD_CODES = ("class-unknown", "object-orphan", "record-broken")
_UNLISTED_CODES = ("image-missing", "image-unreadable", "annotation-orphan")  # images, by readers


def refuse_unread_records(dataset: DatasetSplit) -> None:
    """Refuse a split half of whose annotations could not be read."""
    unread = [issue for issue in dataset.issues if issue.code in _RECORD_CODES]
    if unread and len(unread) >= dataset.num_annotations:
        total = len(unread) + dataset.num_annotations
        listed = first_few(f"{issue.where} ({issue.detail})" for issue in unread)
        raise DataError(
            f"{dataset.path}: {len(unread)} of {total} annotations cannot be read: {listed}."
        )


def refuse_unread_files(dataset: DatasetSplit) -> None:
    """Refuse a split half of whose annotation files, or of the images they name, is unusable."""
    unread = {issue.where for issue in dataset.issues if issue.code == "file-unreadable"}
    files = {image["annotated_in"] for image in dataset.images if image["annotated_in"]} | unread
    if unread and 2 * len(unread) >= len(files):
        issues = [issue for issue in dataset.issues if issue.where in unread]
        raise DataError(
            f"{dataset.path}: {len(unread)} of {len(files)} annotation files cannot be read: "
            f"{first_few(f'{issue.where} ({issue.detail})' for issue in issues)}."
        )
    lost = [issue for issue in dataset.issues if issue.code in _UNLISTED_CODES]
    if lost and not dataset.annotates_pixels and len(lost) >= len(dataset.images):
        raise DataError(
            f"{dataset.path}: {len(lost)} of {len(lost) + len(dataset.images)} images cannot be "
            f"found or read: {first_few(f'{issue.where} ({issue.detail})' for issue in lost)}."
        )


def refuse_many_objects(dataset: DatasetSplit, dropped: Sequence[Issue], kept: int) -> None:
    """Refuse a split half of whose objects, with those that could not be read, is unusable."""
    codes = (*_RECORD_CODES, "mask-polygon")
    lost = [*dropped, *(issue for issue in dataset.issues if issue.code in codes)]
    if lost and len(lost) >= kept:
        counts = Counter(issue.code for issue in lost)
        found = ", ".join(f"{count} {code}" for code, count in counts.items())
        raise DataError(
            f"{dataset.path}: {len(lost)} of {len(lost) + kept} annotations cannot be used "
            f"({found}): {first_few(issue.where for issue in lost)}. tools/check_data.py lists "
            "them all."
        )


def refuse_unit(dataset: DatasetSplit, boxes: np.ndarray, frames: np.ndarray) -> None:
    """Refuse a split all of whose boxes have another unit than pixels, or are two corners."""
    remedies = {
        "box-normalised": "all boxes are between 0 and 1, shares of the image instead of pixels",
        "box-corners": "all boxes fit their images as two corners, not as x, y, width, height",
    }
    if code := wrong_unit(boxes, frames):
        raise DataError(
            f"{dataset.path}: {remedies[code]} ({code}). Correct them, or write a corrected copy "
            f"with tools/check_data.py {dataset.path} --fix OUT."
        )


def refuse_many_images(dataset: DatasetSplit, problems: Mapping[int, tuple[str, str]]) -> None:
    """Refuse a split half of whose images are missing or cannot be used, by position in it."""
    images, total = dataset.images, len(dataset.images)
    missing = [n for n, (code, _) in problems.items() if code == "image-missing"]
    if len(missing) == total:
        raise DataError(
            f"{dataset.path}: none of its {total} images is there, such as "
            f"{images[0]['file_name']}."
        )
    root = image_root(images)
    if 2 * len(missing) >= total:
        names = first_few(os.path.relpath(images[n]["file_name"], root) for n in missing)
        raise DataError(
            f"{root}: {len(missing)} of {total} images named in {dataset.path} are missing: "
            f"{names}. Add them, or name the folder that the file names start from."
        )
    if 2 * len(problems) >= total:
        listed = first_few(
            f"{os.path.relpath(images[n]['file_name'], root)} ({detail})"
            for n, (_, detail) in problems.items()
        )
        raise DataError(
            f"{dataset.path}: {len(problems)} of {total} images in {root} cannot be used: "
            f"{listed}. tools/check_data.py lists them all."
        )
