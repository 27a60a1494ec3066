"""Pascal VOC: one XML file per image, with `ImageSets/Main` for the splits, or a folder of files.

Two pixel conventions are in use, and nothing in a file says which one it has. VOC counts pixels
from 1 and names the first and the last of a box: its left edge is xmin - 1, its right edge xmax.
labelImg, CVAT and most exports name the edges: xmin and xmax. The files of one folder are taken to
count from 1 if no corner is below 1 and every number is whole; `notes` says what was chosen.
`robndbox` (centre, size, angle in radians, clockwise as seen) is in edge coordinates always.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from d2ext.data.formats.dataset_split import DatasetSplit, Item, number_classes
from d2ext.data.formats.image_files import ImageIndex, files_in, image_size, stem
from d2ext.data.formats.outlines import give_angles
from d2ext.data.formats.text_files import head_of
from d2ext.data.formats.values import as_numbers, as_size, is_true
from d2ext.data.formats.voc_layout import VocSplit, annotation_files, find
from d2ext.data.formats.xml_files import parse_xml
from d2ext.data.issues import Issue, reading_issue
from d2ext.errors import DataError
from d2ext.files import read_regular
from detectron2.structures import BoxMode

__all__ = ["FORMAT", "FROM_ONE", "VocSplit", "counts_from_one", "find", "load"]

FORMAT = "Pascal VOC"
FROM_ONE = "pixels count from 1"  # in <source><annotation>, settles the convention
_BELOW_ONE = re.compile(rb"<[xy]min>\s*(?:-|0*(?:[.,]\d*)?\s*<)")
_FRACTION = re.compile(rb"<[xy]m(?:in|ax)>\s*\d*[.,]\d*[1-9]")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_ROTATED = ("cx", "cy", "w", "h", "angle")


def load(part: VocSplit) -> DatasetSplit:
    """Read the XML files of a part. Entities are refused, so no file can be made to expand.

    Raises:
        DataError: an image set names files of which none exists.
    """
    from_one = counts_from_one(part.siblings)
    issues: list[Issue] = []
    encodings: Counter[str] = Counter()
    index = ImageIndex(part.image_folders)
    parsed = []
    for file in annotation_files(part, issues):
        try:
            root = parse_xml(file, encodings)
        except (expat.ExpatError, DataError, ValueError, OSError) as error:
            issues.append(
                reading_issue("file-unreadable", "broken XML", str(file), found=str(error))
            )
            continue
        image = _image(file, root, index, issues)
        if image is not None:
            parsed.append(image)
            image["annotations"] = list(_objects(file, root, image, from_one, issues))
    for image_id, image in enumerate(parsed, start=1):
        image["image_id"] = image_id
    rotated = any(map(_has_angles, part.siblings))
    if rotated:
        give_angles([item for image in parsed for item in image["annotations"]])
    return DatasetSplit(
        format=FORMAT,
        path=part.path,
        split=part.split,
        task="rotated" if rotated else "boxes",
        classes=number_classes(parsed),
        images=parsed,
        issues=issues,
        notes=[] if rotated else [_note(from_one)],
        encodings=encodings,
    )


@lru_cache(maxsize=8)
def counts_from_one(folders: tuple[Path, ...]) -> bool:
    """Return true if the XML files of all folders may count pixels from 1, as VOC does."""
    for folder in folders:
        for file in files_in(folder, ".xml"):
            content = read_regular(file)
            if b"\0" in content[:64]:
                content = head_of(file, -1).encode()  # UTF-16
            if FROM_ONE.encode() in content:
                return True
            if _BELOW_ONE.search(content) or _FRACTION.search(content):
                return False
    return True


def _has_angles(folder: Path) -> bool:
    """Return true if any XML file has a box with an angle: one decision for all splits."""
    return any(b"<robndbox" in read_regular(file) for file in files_in(folder, ".xml"))


def _note(from_one: bool) -> str:
    if from_one:
        return "pixels count from 1, as no corner is below 1: left edge xmin - 1, right edge xmax"
    return "corners are edges: some are below 1 or no whole numbers, so pixels don't count from 1"


def _image(
    file: Path, root: ElementTree.Element, index: ImageIndex, issues: list[Issue]
) -> Item | None:
    name = (root.findtext("filename") or "").strip()
    path = index.find(file.stem) or index.find(name)
    named = index.find(name)
    if named is not None and stem(named.name) == file.stem:
        path = named  # of a.jpg and a.png the one that the file names
    size = as_size([root.findtext("size/width"), root.findtext("size/height")])
    if size is None and path:
        size = image_size(path)
    if size is None:
        issues.append(reading_issue("image-unreadable", "image of unknown size", str(file), name))
        return None
    return {
        "file_name": str(path or index.folders[0] / (name or file.stem)),
        "width": size[0],
        "height": size[1],
        "annotated_in": str(file),
    }


def _objects(
    file: Path,
    root: ElementTree.Element,
    image: Item,
    from_one: bool,
    issues: list[Issue],
) -> Iterator[Item]:
    for number, item in enumerate(root.iter("object"), start=1):
        name = (item.findtext("name") or "").strip()
        box, mode = _box(item, from_one)
        if box is None or not name:
            what = "object without a box" if name else "object without a name"
            where = f"{file}:object {number}"
            issues.append(reading_issue("record-broken", what, where, image["file_name"], name))
            continue
        found = {"bbox": box, "bbox_mode": mode, "category": name, "iscrowd": 0}
        if is_true(item.findtext("difficult")):
            found["difficult"] = 1
        yield found | {"record": f"object {number}"}


def _box(item: ElementTree.Element, from_one: bool) -> tuple[list[float] | None, BoxMode]:
    rotated = item.find("robndbox")
    if rotated is not None:
        numbers = as_numbers([rotated.findtext(key) for key in _ROTATED])
        whole = None if numbers is None else [*numbers[:4], _degrees(numbers[4])]
        return whole, BoxMode.XYWHA_ABS
    corners = item.find("bndbox")
    if corners is None:
        return None, BoxMode.XYWH_ABS
    found = as_numbers([corners.findtext(key) for key in _CORNERS])
    if found is None:
        return None, BoxMode.XYWH_ABS
    x0, y0, x1, y1 = found
    if from_one:
        x0, y0 = x0 - 1, y0 - 1
    return [x0, y0, x1 - x0, y1 - y0], BoxMode.XYWH_ABS


def _degrees(clockwise: float) -> float:
    """Convert radians clockwise to degrees counter-clockwise, from -180 on and below 180."""
    return (180 - math.degrees(clockwise)) % 360 - 180
