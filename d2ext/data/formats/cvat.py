"""CVAT for images and for video 1.1: one XML file with the shapes of all images, or with tracks.

`rotation` of a shape is in degrees, clockwise about its centre. Coordinates are edges in pixels.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from d2ext.data.formats.cvat_skeletons import TAG, skeleton_metadata, skeleton_object
from d2ext.data.formats.dataset_split import DatasetSplit, Item, number_classes
from d2ext.data.formats.image_files import (
    ImageIndex,
    child,
    files_in,
    image_size,
    images_below,
    split_of,
)
from d2ext.data.formats.outlines import (
    box_object,
    ellipse,
    mask_object,
    polygon_object,
    rotated_object,
    settle_task,
)
from d2ext.data.formats.text_files import head_of
from d2ext.data.formats.values import as_numbers, as_size, is_true
from d2ext.data.formats.xml_files import parse_xml
from d2ext.data.issues import reading_issue
from d2ext.data.mask_validity import MAX_PIXELS
from d2ext.errors import DataError
from d2ext.files import read_regular

FORMAT = "CVAT"
_EDGES = ("xtl", "ytl", "xbr", "ybr")
_HEAD = 1 << 12
_SUBSET = re.compile(rb'<image\b[^>]*\bsubset="([^"]+)"')


@dataclass(frozen=True)
class CvatSplit:
    """A part of an XML file and the folders where its images may be.

    Args:
        path: the XML file.
        split: its canonical name.
        image_folders: looked through in this order.
        subset: attribute of the part's images; "": all of them.
    """

    path: Path
    split: str
    image_folders: tuple[Path, ...]
    subset: str = ""


def is_cvat(file: Path) -> bool:
    """Return true for an XML file whose root is CVAT's <annotations>."""
    return "<annotations" in head_of(file, _HEAD)


def find(path: Path, images: Path | None) -> dict[str, CvatSplit]:
    """Find the splits of a CVAT export at `path`; {} if it is something else."""
    files = [path] if path.suffix.lower() == ".xml" else files_in(path, ".xml")
    files = [file for file in files[:4] if is_cvat(file)]
    by_split = {split_of(file.stem): file for file in files}
    if len(files) > 1 and "" not in by_split and len(by_split) == len(files):
        splits = [split for split in ("train", "val", "test") if split in by_split]
        return {split: _part(by_split[split], split, images) for split in splits}
    if len(files) != 1:
        return {}
    return _subsets(files[0], images) or {"": _part(files[0], split_of(files[0].stem), images)}


def load(part: CvatSplit) -> DatasetSplit:
    """Read boxes, polygons, ellipses, masks, skeletons and tracks; other shapes become issues.

    Raises:
        DataError: the XML is broken, or none of the frames of its tracks is found.
    """
    dataset = DatasetSplit(FORMAT, part.path, part.split, "boxes", (), [])
    try:
        root = parse_xml(part.path, dataset.encodings)
    except (expat.ExpatError, ValueError, OSError) as error:
        raise DataError(f"{part.path}: broken XML: {error}. Export it from CVAT again.") from error
    dataset.metadata |= skeleton_metadata(root)
    others = replace(dataset, images=[], issues=[])  # of other subsets
    index = ImageIndex(part.image_folders)
    if root.find("image") is None:
        _add_frames(dataset, root, part)
    for element in root.iter("image"):
        own = part.subset in ("", element.get("subset"))
        _add_image(dataset if own else others, element, index)
    # One decision, and one list of classes, for all subsets of the file.
    images = [*dataset.images, *others.images]
    dataset.classes = number_classes(images)
    items = [item for image in images for item in image["annotations"]]
    dataset.task = settle_task(items, any("keypoints" in item for item in items))
    return dataset


def _part(file: Path, split: str, images: Path | None, subset: str = "") -> CvatSplit:
    here = file.parent
    inside = child(here, "images", "imgs", "data")
    folders = (images,) if images is not None else (*filter(None, (inside,)), here)
    return CvatSplit(file, split, folders, subset)


def _subsets(file: Path, images: Path | None) -> dict[str, CvatSplit]:
    """Return the parts that CVAT's subsets Train, Validation and Test name, if there are two."""
    names = {n.decode("utf-8", "replace") for n in _SUBSET.findall(read_regular(file))}
    by_split = {split_of(name): name for name in sorted(names)}
    if len(by_split) < 2 or "" in by_split or len(by_split) < len(names):
        return {}
    splits = [split for split in ("train", "val", "test") if split in by_split]
    return {split: _part(file, split, images, by_split[split]) for split in splits}


def _add_image(dataset: DatasetSplit, element: ElementTree.Element, index: ImageIndex) -> None:
    name = element.get("name") or ""
    size = as_size([element.get("width"), element.get("height")])
    if size is None or not name:
        what = "image without a name or a size"
        dataset.issues.append(reading_issue("record-broken", what, str(dataset.path), name))
        return
    file = index.find(name) or index.folders[0] / name
    shapes = [shape for shape in element if shape.tag != "tag"]
    records = [
        (f"image {element.get('id')}, shape {number}", shape, shape.get("label"))
        for number, shape in enumerate(shapes, start=1)
    ]
    _add(dataset, file, size, records)


def _add(
    dataset: DatasetSplit,
    file: Path,
    size: tuple[int, int],
    shapes: list[tuple[str, ElementTree.Element, str | None]],
) -> None:
    """Add an image with the shapes of it: record, element and label of each."""
    image = dataset.add_image(file, size)
    for record, shape, label in shapes:
        found = _object(shape, size, dataset.metadata.get("keypoint_names", ()))
        if found is None or not label:
            where, what = f"{dataset.path}:{record}", f"shape that cannot be read: {shape.tag}"
            issue = reading_issue("record-broken", what, where, image["file_name"], label or "")
            dataset.issues.append(issue)
        else:
            found |= {"category": label, "iscrowd": 0, "record": record}
            image["annotations"].append(found)


def _add_frames(dataset: DatasetSplit, root: ElementTree.Element, part: CvatSplit) -> None:
    """Add the images of a video's frames, found by the number that ends their names."""
    frames: dict[int, list[tuple[str, ElementTree.Element, str | None]]] = {}
    for track in root.iter("track"):
        for shape in track:
            frame = _numbers(shape, ("frame",))
            if frame is not None and not is_true(shape.get("outside")):
                record = f"track {track.get('id')}, frame {int(frame[0])}"
                frames.setdefault(int(frame[0]), []).append((record, shape, track.get("label")))
    files = dict(_numbered_images(part.image_folders))
    if not set(frames) & set(files):
        raise DataError(
            f"{part.path}: CVAT's tracks of a video, whose frames are in none of "
            f"{', '.join(map(str, part.image_folders))}. Put them there as frame_000000.png and so "
            "on. Or: Export the task from CVAT as COCO 1.0, with its images."
        )
    for number, file in sorted(files.items()):
        if (size := image_size(file)) is not None:
            _add(dataset, file, size, frames.pop(number, []))
    for number, shapes in sorted(frames.items()):
        for record, _, _ in shapes:
            where = f"{part.path}:{record}"
            issue = reading_issue("object-orphan", f"no image of frame {number}", where)
            dataset.issues.append(issue)


def _numbered_images(folders: tuple[Path, ...]) -> Iterator[tuple[int, Path]]:
    for folder in folders[:1]:
        for file in images_below(folder):
            if found := re.search(r"(\d+)$", file.stem):
                yield int(found[1]), file


def _object(shape: ElementTree.Element, size: tuple[int, int], names: Sequence[str]) -> Item | None:
    """Return the box, and the mask or the keypoints of the shape; None for any other shape."""
    if shape.tag == TAG:
        return skeleton_object(shape, names)
    angle = (_numbers(shape, ("rotation",)) or [0.0])[0]
    if shape.tag == "box" and (edges := _numbers(shape, _EDGES)) is not None:
        x0, y0, x1, y1 = edges
        if not angle % 360:
            return box_object([x0, y0, x1, y1])
        # Counter-clockwise, as Detectron2 has it.
        centre = [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]
        return rotated_object([*centre, (180 - angle) % 360 - 180])
    if shape.tag == "ellipse" and (found := _numbers(shape, ("cx", "cy", "rx", "ry"))) is not None:
        cx, cy, rx, ry = found
        return polygon_object(ellipse(cx, cy, rx, ry, angle))
    if shape.tag == "polygon":
        points = _split_numbers((shape.get("points") or "").replace(";", ","))
        return polygon_object(points) if len(points) >= 6 and len(points) % 2 == 0 else None
    return _mask(shape, size) if shape.tag == "mask" else None


def _mask(shape: ElementTree.Element, size: tuple[int, int]) -> Item | None:
    """Decode a mask: lengths of runs, row by row in its box, the first of the background."""
    place = _numbers(shape, ("left", "top", "width", "height"))
    runs = _split_numbers(shape.get("rle") or "")
    if place is None or min(place[2:]) < 1 or not runs or min(runs) < 0:
        return None
    left, top, width, height = map(int, place)
    if sum(runs) != width * height or width * height > MAX_PIXELS:
        return None
    values = np.arange(len(runs)) % 2 == 1
    pixels = np.repeat(values, np.array(runs, dtype=np.int64)).reshape(height, width)
    return mask_object(pixels, left, top, size)


def _split_numbers(text: str) -> list[float]:
    try:
        found = [float(number) for number in text.split(",")]
    except ValueError:
        return []
    return found if all(map(math.isfinite, found)) else []


def _numbers(element: ElementTree.Element, keys: tuple[str, ...]) -> list[float] | None:
    found = as_numbers([element.get(key) for key in keys])
    return found if found is not None and all(map(math.isfinite, found)) else None
