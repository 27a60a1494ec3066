"""The fixed copy of data sets that --fix writes: what can be fixed is, all else is dropped.

The data themselves are only read. Objects are written as COCO JSON with copies of their images,
semantic masks as copies of images and label images.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from d2ext.data.checks.fix import fix_split
from d2ext.data.checks.fixed_segments import write_segments
from d2ext.data.checks.kinds import kind_of
from d2ext.data.checks.report import Report
from d2ext.data.containment import copy_image_file
from d2ext.data.conversion.coco import coco_document
from d2ext.data.formats import DatasetSplit
from d2ext.data.image_reading import scale_to_8_bits
from d2ext.data.issues import Issue
from d2ext.errors import DataError
from d2ext.files import check_new_folder, replacing

# The EXIF entry of the orientation (tag 0x0112, type SHORT, count 1) and the value 1, upright, in
# either byte order.
_ORIENTATION = {
    b"II": b"\x12\x01\x03\x00\x01\x00\x00\x00",
    b"MM": b"\x01\x12\x00\x03\x00\x00\x00\x01",
}
_UPRIGHT = {b"II": b"\x01\x00", b"MM": b"\x00\x01"}


def write_fixed_copy(splits: Mapping[str, DatasetSplit], report: Report, out: Path) -> list[str]:
    """Write `<out>/<name>.json` and `<out>/images/<name>/` for each split.

    Args:
        splits: by the names that `report` has them under.
        report: of the check of exactly these splits.
        out: a folder that is empty or does not exist.
    Returns:
        What was fixed and written, in lines for a person; `<out>/repairs.json` has all of it.
    Raises:
        DataError: nothing is left of a split, or `out` is in the folder of its images.
        OutputError: `out` is not empty or cannot be written to.
    """
    check_place(splits, out)
    classes = _kept_classes(splits)
    lines = []
    for name, split in splits.items():
        issues = [issue for issue in report.issues if issue.split == name]
        fixed = fix_split(split, issues, classes)
        if not fixed.images:
            raise DataError(f"{split.path}: nothing is left of {name} after repairs.")
        lines.append(f"written: {_write(name, fixed, issues, out)}")
    listing = Report(report.about, [i for i in report.issues if kind_of(i.code).fix])
    listing.write(out / "repairs.json")
    counts = Counter(kind_of(issue.code) for issue in listing.issues)
    done = [f"repaired: {kind.code}, {n}: {kind.fix}" for kind, n in counts.items()]
    return [*done, *lines, f"written: {out / 'repairs.json'}"]


def check_place(splits: Mapping[str, DatasetSplit], out: Path) -> None:
    """Check that a fixed copy can be written to `out`.

    Raises:
        DataError, OutputError: as `write_fixed_copy`.
    """
    check_new_folder(out, "--fix")
    for split in splits.values():
        if split.lacks_boxes:
            raise DataError(
                f"--fix: the objects of {split.format} have no boxes in images, and cannot be "
                "written as COCO JSON."
            )
    parents = {Path(i["file_name"]).parent for s in splits.values() for i in s.images}
    inside = {parent.resolve() for parent in parents} & {out.resolve(), *out.resolve().parents}
    if inside:
        raise DataError(f"--fix {out}: lies in {inside.pop()}, among the data. Name another place.")


def _kept_classes(splits: Mapping[str, DatasetSplit]) -> tuple[str, ...]:
    """Return names without outer spaces, in the first split's order, that have objects anywhere."""
    used: dict[str, bool] = {}
    for split in splits.values():
        for name in split.classes:
            used[name.strip()] = used.get(name.strip(), False) or split.annotates_pixels
        for image in split.images:
            for item in image.get("annotations", ()):
                used[split.classes[item["category_id"]].strip()] = True
    return tuple(name for name, is_used in used.items() if is_used)


def _write(name: str, split: DatasetSplit, issues: Sequence[Issue], out: Path) -> Path:
    folder = out / "images" / name
    names = _unique_names([Path(image["file_name"]) for image in split.images])
    turned = {issue.image for issue in issues if issue.code == "image-turned"}
    deep = {issue.image for issue in issues if issue.code == "image-depth"}
    images = []
    for image, target in zip(split.images, names, strict=True):
        path = Path(image["file_name"])
        copy = _copy_image(path, folder / target, turned=path in turned, deep=path in deep)
        images.append({**image, "file_name": str(copy)})
    split = replace(split, images=images)
    if split.task == "semantic":
        return _write_labels(name, split, out)
    if split.task == "panoptic":
        return write_segments(name, split, out)
    path = out / f"{name}.json"
    with replacing(path) as part:
        part.write_text(json.dumps(coco_document(split, folder)), encoding="utf-8")
    return path


def _write_labels(name: str, split: DatasetSplit, out: Path) -> Path:
    folder = out / "labels" / name
    folder.mkdir(parents=True, exist_ok=True)
    for image in split.images:
        target = folder / f"{Path(image['file_name']).stem}.png"
        copy_image_file(Path(image["sem_seg_file_name"]), target)
    (out / "classes.txt").write_text("\n".join(split.classes) + "\n", encoding="utf-8")
    return folder


def _copy_image(source: Path, target: Path, *, turned: bool, deep: bool) -> Path:
    """Copy an image file and return where to.

    Args:
        turned: set the EXIF orientation of the copy to 1, upright; its pixels stay as they are.
        deep: scale the pixels to 8 bits; the copy is a PNG.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if deep:
        target = target.with_suffix(".png")
        with Image.open(source) as image:
            Image.fromarray(scale_to_8_bits(np.asarray(image))).save(target)
    elif turned:  # saving a JPEG anew would change its pixels
        target.write_bytes(_without_orientation(source.read_bytes()))
    else:
        copy_image_file(source, target)
    return target


def _without_orientation(content: bytes) -> bytes:
    """Set the EXIF orientation of an image file to upright; nothing else of it changes.

    Raises:
        DataError: no orientation is found where EXIF has it.
    """
    start = content.find(b"Exif\0\0")
    start = start + 6 if start >= 0 else content.find(b"eXIf") + 4
    order = content[start : start + 2]
    place = content.find(_ORIENTATION.get(order, b"\0" * 8), start)
    if order not in _ORIENTATION or place < 0:
        raise DataError("the EXIF orientation is not where it is expected; save the image upright.")
    value = place + 8
    return content[:value] + _UPRIGHT[order] + content[value + 2 :]


def _unique_names(paths: Sequence[Path]) -> list[Path]:
    """Return a file name for each path, numbered where others have it, in any case of letters."""
    taken: set[str] = set()  # in lower case: some file systems do not tell A.jpg from a.jpg
    found = []
    for path in paths:
        candidate, number = path.name, 1
        while candidate.casefold() in taken:
            number += 1
            candidate = f"{path.stem}_{number}{path.suffix}"
        taken.add(candidate.casefold())
        found.append(Path(candidate))
    return found
