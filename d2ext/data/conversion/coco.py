"""A `DatasetSplit` as a document in COCO's format."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from d2ext.data.formats import DatasetSplit, Item
from d2ext.data.formats.coco import shifted
from d2ext.data.keypoint_validity import keypoint_count
from d2ext.errors import DataError


def coco_document(
    dataset: DatasetSplit, root: Path | None = None, *, original: bool = False
) -> dict[str, Any]:
    """Build the document: images, categories and annotations; rotated boxes have five numbers.

    Beside COCO's keys, an annotation has "difficult" if it was that.

    Args:
        dataset: boxes, masks, keypoints or rotated boxes.
        root: images below it are named relative to it, all others by their whole path.
        original: keep ids and areas of the COCO file that the data set was read from. Otherwise
            annotations and categories are counted from 1, and areas computed.
    Raises:
        DataError: the data set holds semantic or panoptic masks.
    """
    if dataset.annotates_pixels:
        raise DataError(
            f"{dataset.path}: {dataset.task} masks are no objects, as COCO's format has."
        )
    return {**_head(dataset, root, original), "annotations": list(_annotations(dataset, original))}


def write_coco_file(dataset: DatasetSplit, path: Path, root: Path) -> None:
    """Write `coco_document(dataset, root, original=True)`, without having all of it in memory."""
    with path.open("w", encoding="ascii") as file:
        file.write(json.dumps(_head(dataset, root, True)).removesuffix("}"))
        file.write(', "annotations": [')
        for number, item in enumerate(_annotations(dataset, True)):
            file.write(",\n" if number else "\n")
            json.dump(item, file)
        file.write("]}")


def category_ids(dataset: DatasetSplit) -> Sequence[int]:
    """Return the id of each class: those of the COCO file, or else counted from 1."""
    return dataset.category_ids or _counted(dataset)


def _counted(dataset: DatasetSplit) -> Sequence[int]:
    return range(1, len(dataset.classes) + 1)


def _head(dataset: DatasetSplit, root: Path | None, original: bool) -> dict[str, Any]:
    return {
        "info": {"description": f"from {dataset.format}: {dataset.path}"},
        "images": [_image(image, root) for image in dataset.images],
        "categories": _categories(dataset, original),
    }


def _image(image: Item, root: Path | None) -> dict[str, Any]:
    path = Path(image["file_name"])
    inside = root is not None and path.is_relative_to(root)
    return {
        "id": image["image_id"],
        "file_name": path.relative_to(root).as_posix() if inside and root else str(path),
        "width": image["width"],
        "height": image["height"],
    }


def _categories(dataset: DatasetSplit, original: bool) -> list[dict[str, Any]]:
    given = {c.get("name"): c for c in dataset.metadata.get("categories", ())}
    more = {}
    if names := dataset.metadata.get("keypoint_names"):
        more = {"keypoints": list(names), "skeleton": []}
    found = []
    ids = category_ids(dataset) if original else _counted(dataset)
    for number, name in zip(ids, dataset.classes, strict=True):
        kept = {k: v for k, v in given.get(name, {}).items() if k in ("supercategory", "skeleton")}
        found.append({"id": number, "name": name, **more, **kept})
    return found


def _annotations(dataset: DatasetSplit, original: bool) -> Iterator[dict[str, Any]]:
    categories = category_ids(dataset) if original else _counted(dataset)
    numbers = _record_ids(dataset) if original else None
    fillings = _fillings(dataset) if original else {}
    position = 0
    for image in dataset.images:
        for item in image["annotations"]:
            number = numbers[position] if numbers else position + 1
            area = item.get("area") if original else None
            yield {
                "id": number,
                "image_id": image["image_id"],
                "category_id": categories[item["category_id"]],
                "bbox": item["bbox"],
                "area": area if area is not None else _area(item),
                "iscrowd": item["iscrowd"],
                **_optional(item),
                **{key: fill(item) for key, fill in fillings.items() if not item.get(key)},
            }
            position += 1


def _fillings(dataset: DatasetSplit) -> dict[str, Callable[[Item], Any]]:
    """Return what evaluation needs of objects that lack what others have: pycocotools has no None.

    A box stands for the mask; keypoints are there, but not labelled.
    """
    objects = [item for image in dataset.images for item in image["annotations"]]
    count = keypoint_count(dataset.metadata.get("keypoint_names"), objects)
    found: dict[str, Callable[[Item], Any]] = {}
    if any(item.get("segmentation") for item in objects) and dataset.task != "rotated":
        found["segmentation"] = lambda item: [_rectangle(*item["bbox"])]
    if any("keypoints" in item for item in objects):
        found["keypoints"] = lambda item: [0] * 3 * count
        found["num_keypoints"] = lambda item: sum(
            seen > 0 for seen in (item.get("keypoints") or ())[2::3]
        )
    return found


def _rectangle(x: float, y: float, width: float, height: float) -> list[float]:
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def _record_ids(dataset: DatasetSplit) -> Sequence[int] | None:
    """Return the annotations' own ids, if evaluation can use them all."""
    ids = [item["record"] for image in dataset.images for item in image["annotations"]]
    usable = all(isinstance(value, int) and value > 0 for value in ids)
    return ids if dataset.format == "COCO" and usable and len(set(ids)) == len(ids) else None


def _optional(item: Item) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if segmentation := item.get("segmentation"):
        found["segmentation"] = _plain(segmentation)
    if (keypoints := item.get("keypoints")) is not None:
        found["keypoints"] = shifted(keypoints, -0.5)
        found["num_keypoints"] = sum(seen > 0 for seen in keypoints[2::3])
    return found | ({"difficult": 1} if item.get("difficult") else {})


def _plain(segmentation: Any) -> Any:
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], bytes):
        return {**segmentation, "counts": segmentation["counts"].decode("ascii")}
    return segmentation


def _area(item: Item) -> float:
    """Compute the area of the mask, or else of the box, which COCO's sizes are defined by."""
    segmentation = item.get("segmentation")
    if isinstance(segmentation, list) and segmentation:
        return float(sum(_polygon_area(polygon) for polygon in segmentation))
    if segmentation:
        return float(coco_mask.area(segmentation))
    width, height = item["bbox"][2:4]
    area = width * height
    return area if math.isfinite(area) else 0.0


def _polygon_area(polygon: list[float]) -> float:
    xs, ys = polygon[::2], polygon[1::2]
    pairs = zip(xs, ys, xs[1:] + xs[:1], ys[1:] + ys[:1], strict=True)
    return abs(sum(x0 * y1 - x1 * y0 for x0, y0, x1, y1 in pairs)) / 2
