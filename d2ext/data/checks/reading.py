"""Faults that were met while reading a data set, as kinds of faults of the check."""

from collections.abc import Mapping
from pathlib import Path

from d2ext.data.checks.subject import Subject
from d2ext.data.formats import Fault
from d2ext.data.image_info import ImageInfo

_CODES = {
    "annotation of an unknown image": "object-orphan",
    "broken XML": "file-unreadable",
    "broken labelme file": "file-unreadable",
    "image not found": "image-missing",
    "image of unknown size": "image-unreadable",
    "image without a mask": "labels-missing",
    "image without segments": "labels-missing",
    "labels without an image": "annotation-orphan",
    "listed file without XML": "file-missing",
    "mask that is none": "mask-polygon",
    "mask without an image": "annotation-orphan",
    "split that cannot be read": "split-missing",
    "unknown category": "class-unknown",
    "unknown class": "class-unknown",
    "unknown colour": "labels-unlisted",
    "unknown value": "labels-unlisted",
    "unreadable image": "image-unreadable",
    "unreadable labels": "file-unreadable",
    "unreadable mask": "labels-missing",
}


def add_reading_faults(subject: Subject, probes: Mapping[Path, ImageInfo]) -> None:
    """Take over what could not be read; of images, say what exactly is wrong with them.

    Args:
        probes: of the images that are named, by path.
    """
    for fault in subject.source.faults:
        code, detail = _CODES.get(fault.kind, "record-broken"), _told(fault)
        found = probes.get(Path(fault.image)) if code.startswith("image-") else None
        if found is not None and found.problem:
            code, detail = found.problem, found.detail
        subject.add(code, fault.where, detail, fault.image)


def _told(fault: Fault) -> str:
    image = f" in {Path(fault.image).name}" if fault.image and fault.image != fault.where else ""
    return f"{fault.kind}{image}" + (f": {fault.detail}" if fault.detail else "")
