"""Faults of single annotations: what can be mended is, what cannot is dropped and listed."""

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2ext.data import checks
from d2ext.data.cache import cache_folder, cached_file
from d2ext.data.checks import Document, Item
from d2ext.data.formats import Fault as SourceFault
from d2ext.data.leaving_out import Fault, leave_out_images, leave_out_records
from d2ext.errors import DataError
from d2ext.files import replacing

VERSION = 1  # of the repaired copies: raise it when repairs change

_logger = logging.getLogger(__name__)
_faults: dict[str, list[Fault]] = {}  # of the data sets read so far, by name


def checked(name: str, annotations: Path, images: Path) -> Path:
    """Check a data set and say where a file without faults is.

    Args:
        name: of the data set, for the log and `write_faults`.
        annotations: the user's file; never changed.
        images: folder of the images.
    Returns:
        `annotations`, or a repaired copy in the cache.
    Raises:
        DataError: the data cannot be used; see `d2ext.data.checks`.
        OutputError: the cache cannot be written.
    """
    try:
        state = annotations.stat()
        key = (state.st_mtime_ns, state.st_size)
    except OSError:
        key = (0, 0)
    path, faults = _checked(annotations, images, cache_folder(), key)
    if faults and name not in _faults:
        counts = Counter(fault["reason"] for fault in faults)
        listed = ", ".join(f"{count} {reason}" for reason, count in counts.items())
        what = "annotations" if all("bbox" in fault for fault in faults) else "records"
        _logger.warning("%s: dropped %d %s: %s.", annotations, len(faults), what, listed)
    _faults[name] = list(faults)
    return path


def note_faults(name: str, faults: Sequence[SourceFault]) -> None:
    """Remember, for `write_faults`, what reading the files of a data set left out."""
    if faults and not any("where" in fault for fault in _faults.get(name, ())):
        counts = Counter(fault.kind for fault in faults)
        listed = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        _logger.warning("%s: left out %d records: %s.", name, len(faults), listed)
    others = [fault for fault in _faults.get(name, ()) if "where" not in fault]
    found = [
        {"where": f.where, "image": f.image, "reason": f.kind, "found": f.detail} for f in faults
    ]
    _faults[name] = others + found


def write_faults(folder: str | Path) -> list[Path]:
    """List what was dropped so far in `folder`/data_faults/<name>.json, one file a data set.

    Each entry has image (file name) and reason; of annotations annotation (its id, if it had one)
    and bbox, of images what was found and how many annotations went with it, of records that could
    not be read where (file and line) and what was found there.

    Raises:
        OutputError: the folder cannot be written.
    """
    written = []
    for name, faults in _faults.items():
        if faults:
            path = Path(folder) / "data_faults" / f"{_file_name(name)}.json"
            with replacing(path) as part:
                part.write_text(json.dumps(faults, indent=1), encoding="utf-8")
            written.append(path)
    return written


@lru_cache(maxsize=64)
def _checked(
    annotations: Path, images: Path, cache: Path, state: tuple[int, int]
) -> tuple[Path, tuple[Fault, ...]]:
    """As `checked`, remembered as long as the file and the place of the cache stay the same."""
    content = checks.read_text(annotations)
    document = checks.parse(annotations, content)
    faults = leave_out_records(document)
    checks.check(annotations, document)
    faults += leave_out_images(annotations, document, images)
    changed = _forget_empty_polygons(document["annotations"])
    faults += _drop(annotations, document)
    changed |= _complete(document)
    # pycocotools reads with the machine's encoding, which need not be UTF-8: give it ASCII.
    if not (faults or changed or not content.isascii()):
        return annotations, ()
    digest = hashlib.sha256(content).hexdigest()[:16]
    copy = cache / "annotations" / f"{_file_name(annotations.stem)}-{VERSION}-{digest}.json"
    return cached_file(copy, json.dumps(document).encode("ascii")), tuple(faults)


def _drop(path: Path, document: Document) -> list[Fault]:
    """Take annotations that no detector can learn from out of `document`; what they were."""
    annotations: list[Item] = document["annotations"]
    boxes = checks.box_array(path, annotations)
    images = {image["id"]: image for image in document["images"]}
    owners = [images[item["image_id"]] for item in annotations]
    sizes = np.array([(image["width"], image["height"]) for image in owners], dtype=np.float64)
    reasons = _box_reasons(boxes, sizes)
    for index, item in enumerate(annotations):
        if _has_only_bad_polygons(item):
            reasons.setdefault(index, "mask without a polygon of three points")
        if not _fits(item.get("segmentation"), owners[index]):
            reasons.setdefault(index, "mask of another size than its image")
    document["annotations"] = [a for n, a in enumerate(annotations) if n not in reasons]
    faults = [_fault(annotations[n], owners[n], reasons[n]) for n in sorted(reasons)]
    if not document["annotations"]:
        counts = Counter(reasons.values())
        raise DataError(
            f"{path}: none of the {len(annotations)} annotations can be used: "
            f"{', '.join(f'{count} {reason}' for reason, count in counts.items())}. Boxes are "
            "x, y, width, height in pixels of the image."
        )
    return faults


def _box_reasons(boxes: NDArray[np.float64], sizes: NDArray[np.float64]) -> dict[int, str]:
    """Index -> what is wrong, for (N, 4) XYWH boxes in images of (N, 2) width and height.

    (N, 5) XYWHA boxes are outside where the upright box around them is.
    """
    finite = np.logical_and.reduce(np.isfinite(boxes), axis=1)
    known = np.where(finite[:, None], boxes, 1)
    flat = finite & (known[:, 2:4] <= 0).any(1)
    corner, side = _around(known).reshape(-1, 2, 2).swapaxes(0, 1)
    outside = finite & ~flat & ((corner >= sizes) | (corner + side <= 0)).any(1)
    reasons = dict.fromkeys(np.flatnonzero(~finite).tolist(), "box with a non-finite number")
    reasons |= dict.fromkeys(np.flatnonzero(flat).tolist(), "box without area")
    return reasons | dict.fromkeys(np.flatnonzero(outside).tolist(), "box outside of the image")


def _around(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 4) XYWH boxes as they are, the ones around (N, 5) XYWHA boxes."""
    if boxes.shape[1] == 4:
        return boxes
    angle = np.deg2rad(boxes[:, 4:])
    c, s = np.abs(np.cos(angle)), np.abs(np.sin(angle))
    sides = boxes[:, 2:4] * c + boxes[:, 3:1:-1] * s
    return np.concatenate((boxes[:, :2] - sides / 2, sides), axis=1)


def _forget_empty_polygons(annotations: list[Item]) -> bool:
    """Remove polygons that are none from a file of boxes; whether there were any.

    Detectron2 leaves out objects with such polygons, which is right only where others have masks.
    """
    empty = [item for item in annotations if _has_only_bad_polygons(item)]
    if len(empty) < sum(bool(item.get("segmentation")) for item in annotations):
        return False
    for item in empty:
        del item["segmentation"]
    return bool(empty)


def _has_only_bad_polygons(item: Item) -> bool:
    polygons = item.get("segmentation")
    return (
        isinstance(polygons, list)
        and bool(polygons)
        and not any(
            isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0
            for polygon in polygons
        )
    )


def _fits(segmentation: Any, image: Item) -> bool:
    """Whether run lengths are of the image's size; polygons have none."""
    if not isinstance(segmentation, dict):
        return True
    return segmentation.get("size") == [image["height"], image["width"]]


def _complete(document: Document) -> bool:
    """Add what COCO's evaluation reads and many exporters leave out; whether anything changed."""
    annotations: list[Item] = document["annotations"]
    changed = False
    if "info" not in document:
        document["info"], changed = {}, True  # some versions of pycocotools copy it unasked
    if any(not _is_good_id(item.get("id")) for item in annotations):
        # The evaluation takes the id 0 for "no match".
        for number, item in enumerate(annotations, start=1):
            item["id"] = number
        changed = True
    for item in annotations:
        before = len(item)
        item.setdefault("area", item["bbox"][2] * item["bbox"][3])
        item.setdefault("iscrowd", 0)
        if "ignore" in item:  # a region to be left out: COCO's word for it is crowd
            item["iscrowd"] = int(bool(item.pop("ignore")) or item["iscrowd"])
            changed = True
        changed |= len(item) != before
    return changed


def _is_good_id(value: Any) -> bool:
    return isinstance(value, int) and value > 0


def _fault(item: Item, image: Item, reason: str) -> Fault:
    # JSON has no name for numbers that are not finite.
    box = [value if np.isfinite(value) else str(value) for value in item["bbox"]]
    return {
        "annotation": item.get("id"),
        "image": image["file_name"],
        "bbox": box,
        "reason": reason,
    }


def _file_name(name: str) -> str:
    """`name` without what a file name cannot hold."""
    return re.sub(r"[^\w.-]+", "_", name)
