"""labelme: a JSON file an image, with polygons, rectangles, circles and other shapes."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from d2ext.data.formats.dataset_split import DatasetSplit, Item, number_classes
from d2ext.data.formats.image_files import (
    ImageIndex,
    LabelFolder,
    child,
    files_in,
    image_size,
    split_folders,
    split_of,
)
from d2ext.data.issues import reading_issue
from detectron2.structures import BoxMode

FORMAT = "labelme"
_CIRCLE = 32  # corners of the polygon that stands for a circle
_HEAD = 1 << 16
_FOLDERS = ("annotations", "labels", "json", "jsons", "labelme")


def find(path: Path, images: Path | None) -> dict[str, LabelFolder]:
    """Find the splits of a labelme data set at `path`; {} if it is something else."""
    for folder in filter(None, (path, child(path, *_FOLDERS))):
        if _has_shapes(folder):
            return {"": _part(folder, split_of(path.name), images)}
        found = {split: p for split, p in split_folders(folder).items() if _has_shapes(p)}
        if found:
            return {split: _part(p, split, images) for split, p in found.items()}
    return {}


def load(part: LabelFolder) -> DatasetSplit:
    """Read the JSON files of a part. Pictures inside of them (`imageData`) are not used."""
    index = ImageIndex(part.image_folders)
    dataset = DatasetSplit(FORMAT, part.path, part.split, "boxes", (), [])
    for file in files_in(part.path, ".json"):
        try:
            document = json.loads(file.read_bytes().decode("utf-8-sig"))
            shapes = document["shapes"]
        except (ValueError, KeyError, TypeError, OSError) as error:
            dataset.issues.append(
                reading_issue("file-unreadable", "broken labelme file", str(file), found=str(error))
            )
            continue
        _add_image(dataset, file, document, shapes, index)
    dataset.classes = number_classes(dataset.images)
    items = [item for image in dataset.images for item in image["annotations"]]
    dataset.task = "masks" if any("segmentation" in item for item in items) else "boxes"
    return dataset


def _has_shapes(folder: Path) -> bool:
    for file in files_in(folder, ".json")[:1]:
        with file.open("rb") as stream:
            head = stream.read(_HEAD)
        return b'"shapes"' in head or (b'"imageData"' in head and b'"imagePath"' in head)
    return False


def _part(folder: Path, split: str, images: Path | None) -> LabelFolder:
    if images is not None:
        return LabelFolder(folder, split, (images,))
    places = [folder]
    for base in (folder, folder.parent):
        if (inner := child(base, "images", "imgs", "JPEGImages")) is not None:
            places.append(inner)
    return LabelFolder(folder, split, (*places, folder.parent))


def _add_image(
    dataset: DatasetSplit, file: Path, document: Item, shapes: list[Item], index: ImageIndex
) -> None:
    name = str(document.get("imagePath") or file.stem)
    path = index.find(name) or index.find(file.stem)
    size: Any = document.get("imageWidth"), document.get("imageHeight")
    if not all(isinstance(n, int) and n > 0 for n in size):
        size = image_size(path) if path else None
    if size is None:
        dataset.issues.append(
            reading_issue("image-unreadable", "image of unknown size", str(file), name)
        )
        return
    image: Item = {
        "file_name": str(path or file.parent / name),
        "image_id": len(dataset.images) + 1,
        "width": int(size[0]),
        "height": int(size[1]),
        "annotated_in": str(file),
        "annotations": [],
    }
    dataset.images.append(image)
    groups: dict[tuple[str, str], Item] = {}  # shapes of one label and group_id: one object
    for number, shape in enumerate(shapes, start=1):
        found = _parse_shape(dataset, image, shape, number)
        if found is None:
            continue
        group = found["record"] if shape.get("group_id") is None else str(shape["group_id"])
        first = groups.setdefault((found["category"], group), found)
        if first is found:
            image["annotations"].append(found)
        else:
            _join(first, found)


def _parse_shape(dataset: DatasetSplit, image: Item, shape: Item, number: int) -> Item | None:
    kind = shape.get("shape_type") or "polygon"
    found = _object(kind, shape.get("points"))
    if found is None or not shape.get("label"):
        what = f"shape that is no region: {kind}" if found is None else "shape without a label"
        where = f"{image['annotated_in']}:shape {number}"
        label = str(shape.get("label"))
        issue = reading_issue("record-broken", what, where, image["file_name"], label)
        dataset.issues.append(issue)
        return None
    return found | {"category": str(shape["label"]), "iscrowd": 0, "record": f"shape {number}"}


def _join(first: Item, other: Item) -> None:
    """Join the parts of an object: its box is around all, its mask has the polygons of all."""
    if "segmentation" in first or "segmentation" in other:
        first["segmentation"] = _polygons(first) + _polygons(other)
    corners = np.array([[x, y, x + w, y + h] for x, y, w, h in (first["bbox"], other["bbox"])])
    low, high = corners[:, :2].min(0), corners[:, 2:].max(0)
    first["bbox"] = [*low.tolist(), *(high - low).tolist()]


def _polygons(item: Item) -> list[list[float]]:
    """Return the polygons of an object; a rectangle is its corners."""
    x, y, w, h = item["bbox"]
    return item.get("segmentation") or [[x, y, x + w, y, x + w, y + h, x, y + h]]


def _object(kind: str, points: Any) -> Item | None:
    """Box, and polygon if the shape is not itself a box."""
    try:
        xy = [(float(x), float(y)) for x, y in points]
    except (TypeError, ValueError):
        return None
    if kind == "circle" and len(xy) == 2:
        xy = _circle(*xy)
    if kind == "rectangle" and len(xy) >= 2:
        return _box(xy)
    if kind in ("polygon", "circle", "rotation") and len(xy) >= 3:
        return _box(xy) | {"segmentation": [[n for point in xy for n in point]]}
    return None


def _box(xy: list[tuple[float, float]]) -> Item:
    xs, ys = zip(*xy, strict=True)
    box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    return {"bbox": box, "bbox_mode": BoxMode.XYWH_ABS}


def _circle(centre: tuple[float, float], rim: tuple[float, float]) -> list[tuple[float, float]]:
    radius = math.dist(centre, rim)
    angles = [2 * math.pi * n / _CIRCLE for n in range(_CIRCLE)]
    return [(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles]
