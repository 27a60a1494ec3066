"""labelme: a JSON file per image, with polygons, rectangles, circles, turned boxes and masks.

Single points are keypoints of the object that has the same group_id, named by their labels.
"""

import base64
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from d2ext.data.formats.corners import rotated_box
from d2ext.data.formats.dataset_split import DatasetSplit, Item, number_classes
from d2ext.data.formats.image_files import (
    UNREADABLE_IMAGE,
    ImageIndex,
    LabelFolder,
    child,
    files_in,
    image_size,
    split_folders,
    split_of,
)
from d2ext.data.formats.outlines import (
    box_object,
    ellipse,
    give_angles,
    mask_object,
    polygon_object,
    rotated_object,
    turn_into_polygons,
)
from d2ext.data.formats.single_points import add_point, point_names, turn_into_keypoints
from d2ext.data.formats.text_files import head_of, read_text
from d2ext.data.formats.values import as_numbers, as_size, is_true
from d2ext.data.issues import reading_issue
from d2ext.errors import DataError

FORMAT = "labelme"
_OUTLINES = {"polygon", "circle", "mask"}  # types of shapes with a mask
_ROTATED = {"rotation", "oriented_rectangle"}
_POINT = "point"
_TYPE = re.compile(r'"shape_type"\s*:\s*"(\w+)"')
_HEAD = 1 << 16
_FOLDERS = ("annotations", "labels", "json", "jsons", "labelme")


def find(path: Path, images: Path | None) -> dict[str, LabelFolder]:
    """Find the splits of a labelme data set at `path`; {} if it is something else."""
    for folder in filter(None, (path, child(path, *_FOLDERS))):
        if _has_shapes(folder):
            return {"": _part(folder, split_of(path.name), images)}
        found = {split: p for split, p in split_folders(folder).items() if _has_shapes(p)}
        if found:
            parts = {split: _part(p, split, images) for split, p in found.items()}
            return {split: replace(p, others=tuple(found.values())) for split, p in parts.items()}
    return {}


def load(part: LabelFolder) -> DatasetSplit:
    """Read the JSON files of a part. Pictures inside of them (`imageData`) are not used."""
    dataset = _read(part)
    folders = part.others or (part.path,)
    kinds = {kind for folder in folders for kind in _shape_types(folder)}
    names = _point_names(dataset, part, folders) if _POINT in kinds else []
    turn_into_keypoints(dataset, names)
    dataset.classes = number_classes(dataset.images)
    items = [item for image in dataset.images for item in image["annotations"]]
    if names or kinds & _OUTLINES:
        turn_into_polygons(items)
        dataset.task = "keypoints" if names else "masks"
    elif kinds & _ROTATED:
        give_angles(items)
        dataset.task = "rotated"
    return dataset


def _read(part: LabelFolder) -> DatasetSplit:
    """Read the objects of a part, whose points are not yet keypoints."""
    index = ImageIndex(part.image_folders)
    dataset = DatasetSplit(FORMAT, part.path, part.split, "boxes", (), [])
    for file in files_in(part.path, ".json"):
        try:
            document = json.loads(read_text(file, dataset.encodings))
            shapes = [dict(shape) for shape in document["shapes"]]
        except (DataError, ValueError, KeyError, TypeError, RecursionError) as error:
            dataset.issues.append(
                reading_issue("file-unreadable", "broken labelme file", str(file), found=str(error))
            )
            continue
        _add_image(dataset, file, document, shapes, index)
    return dataset


def _point_names(dataset: DatasetSplit, part: LabelFolder, folders: Sequence[Path]) -> list[str]:
    """Return the names of the points of all splits: one list of keypoints holds for them."""
    return point_names(
        dataset if folder == part.path else _read(replace(part, path=folder)) for folder in folders
    )


def _shape_types(folder: Path) -> set[str]:
    """Return the types of shapes in a folder's files: one decision holds for all splits."""
    found: set[str] = set()
    for file in files_in(folder, ".json"):
        content = head_of(file, -1)
        found |= set(_TYPE.findall(content))
        if '"shape_type"' not in content and '"points"' in content:
            found.add("polygon")  # as first versions of labelme, which had no others
    return found


def _has_shapes(folder: Path) -> bool:
    for file in files_in(folder, ".json")[:1]:
        head = head_of(file, _HEAD)
        return '"shapes"' in head or ('"imageData"' in head and '"imagePath"' in head)
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
    size = as_size([document.get("imageWidth"), document.get("imageHeight")])
    if size is None and path:
        size = image_size(path)
    if size is None:
        dataset.issues.append(
            reading_issue("image-unreadable", "image of unknown size", str(file), name)
        )
        return
    shown = path or file.parent / name
    image = dataset.add_image(shown, size, file)
    groups: dict[tuple[str, str], Item] = {}  # shapes of one label and group_id: one object
    owners: dict[str, list[Item]] = {}  # objects by group_id
    for number, shape in enumerate(shapes, start=1):
        if shape.get("shape_type") == _POINT:
            continue
        found = _parse_shape(dataset, image, shape, number)
        if found is None:
            continue
        grouped = shape.get("group_id") is not None
        group = str(shape["group_id"]) if grouped else found["record"]
        first = groups.setdefault((found["category"], group), found)
        if first is not found:
            _join(image, first, found)
            continue
        image["annotations"].append(found)
        if grouped:
            owners.setdefault(group, []).append(found)
    _add_points(dataset, image, shapes, owners)


def _add_points(
    dataset: DatasetSplit, image: Item, shapes: list[Item], owners: dict[str, list[Item]]
) -> None:
    """Give single points to the objects of their groups; others become issues."""
    for number, shape in enumerate(shapes, start=1):
        if shape.get("shape_type") != _POINT:
            continue
        label, corners = str(shape.get("label") or ""), _corners(shape.get("points")) or []
        group = shape.get("group_id")
        # X-AnyLabeling, which writes labelme's files, marks occluded points as difficult.
        visibility = 1.0 if is_true(shape.get("difficult")) else 2.0
        place = corners[0] if len(corners) == 1 else ()
        mine = [] if group is None else owners.get(str(group), [])
        if what := add_point(mine, "group_id", label, place, visibility):
            _report(dataset, image, number, what, label)


def _report(dataset: DatasetSplit, image: Item, number: int, what: str, label: str) -> None:
    where = f"{image['annotated_in']}:shape {number}"
    issue = reading_issue("record-broken", what, where, image["file_name"], label)
    dataset.issues.append(issue)


def _parse_shape(dataset: DatasetSplit, image: Item, shape: Item, number: int) -> Item | None:
    kind = shape.get("shape_type") or "polygon"
    found = _mask(shape, image) if kind == "mask" else _object(kind, shape.get("points"))
    if found is None or not shape.get("label"):
        what = f"shape that is no region: {kind}" if found is None else "shape without a label"
        _report(dataset, image, number, what, str(shape.get("label")))
        return None
    if is_true(shape.get("difficult")):
        found["difficult"] = 1
    return found | {"category": str(shape["label"]), "iscrowd": 0, "record": f"shape {number}"}


def _mask(shape: Item, image: Item) -> Item | None:
    """Decode the mask of labelme's AI tools: a PNG in base64 of the part within two corners."""
    corners = _corners(shape.get("points"))
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape.get("mask") or ""))) as picture:
            pixels = np.asarray(picture.convert("L")) > 0
    except (*UNREADABLE_IMAGE, TypeError):
        return None
    if corners is None or not corners:
        return None
    left, top = (round(min(values)) for values in zip(*corners, strict=True))
    return mask_object(pixels, left, top, (image["width"], image["height"]))


def _join(image: Item, first: Item, other: Item) -> None:
    """Join the parts of an object: its box is around all, its mask has the polygons of all."""
    turn_into_polygons([first, other])
    if any(isinstance(item.get("segmentation"), dict) for item in (first, other)):
        size = image["height"], image["width"]
        runs = [_as_run_lengths(item, *size) for item in (first, other)]
        first["segmentation"] = coco_mask.merge(runs)
    elif "segmentation" in first or "segmentation" in other:
        first["segmentation"] = _polygons(first) + _polygons(other)
    corners = np.array([[x, y, x + w, y + h] for x, y, w, h in (first["bbox"], other["bbox"])])
    low, high = corners[:, :2].min(0), corners[:, 2:].max(0)
    first["bbox"] = [*low.tolist(), *(high - low).tolist()]


def _polygons(item: Item) -> list[list[float]]:
    """Return the polygons of an object; a rectangle is its corners."""
    x, y, w, h = item["bbox"]
    return item.get("segmentation") or [[x, y, x + w, y, x + w, y + h, x, y + h]]


def _as_run_lengths(item: Item, height: int, width: int) -> Any:
    segmentation = item.get("segmentation")
    if isinstance(segmentation, dict):
        return segmentation
    return coco_mask.merge(coco_mask.frPyObjects(_polygons(item), height, width))


def _object(kind: str, points: Any) -> Item | None:
    """Return a box, with an angle if it is turned, and a polygon if the shape is no box."""
    xy = _corners(points)
    if xy is None:
        return None
    flat = [number for point in xy for number in point]
    if kind == "circle" and len(xy) == 2:
        radius = math.dist(*xy)
        return polygon_object(ellipse(*xy[0], radius, radius))
    if kind == "rectangle" and len(xy) >= 2:
        return box_object(flat)
    if kind in _ROTATED and len(xy) == 4:
        return rotated_object(rotated_box(flat))
    if kind in ("polygon", "circle", *_ROTATED) and len(xy) >= 3:
        return polygon_object(flat)
    return None


def _corners(points: Any) -> list[tuple[float, float]] | None:
    try:
        flat = as_numbers([number for x, y in points for number in (x, y)])
    except (TypeError, ValueError):  # not pairs
        return None
    return None if flat is None else list(zip(flat[::2], flat[1::2], strict=True))
