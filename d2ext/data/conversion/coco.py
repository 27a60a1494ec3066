"""A `DatasetSplit` as a document in COCO's format."""

import math
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from d2ext.data.formats import DatasetSplit, Item, origin
from d2ext.data.formats.coco import shifted
from d2ext.errors import DataError


def coco_document(
    dataset: DatasetSplit, root: Path | None = None, *, origins: bool = False
) -> dict[str, Any]:
    """Images, categories and annotations as COCO has them; rotated boxes have five numbers.

    Annotations are counted from 1, and categories too, in the order of `dataset.classes`. Beside
    COCO's keys, an annotation has "difficult" if it was that.

    Args:
        dataset: boxes, masks, keypoints or rotated boxes.
        origins: whether annotations get "origin", the file and line where they stood.
        root: images below it are named relative to it, all others by their whole path.
    Raises:
        DataError: the source holds semantic or panoptic masks.
    """
    if dataset.task in ("semantic", "panoptic"):
        raise DataError(
            f"{dataset.path}: {dataset.task} masks are no objects, as COCO's format has."
        )
    numbered = ((image, item) for image in dataset.images for item in image["annotations"])
    return {
        "info": {"description": f"from {dataset.format}: {dataset.path}"},
        "images": [_image(image, root) for image in dataset.images],
        "categories": _categories(dataset),
        "annotations": [_annotation(n, *pair, origins) for n, pair in enumerate(numbered, start=1)],
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


def _categories(dataset: DatasetSplit) -> list[dict[str, Any]]:
    given = {c.get("name"): c for c in dataset.metadata.get("categories", ())}
    more = {}
    if names := dataset.metadata.get("keypoint_names"):
        more = {"keypoints": list(names), "skeleton": []}
    found = []
    for number, name in enumerate(dataset.classes, start=1):
        kept = {k: v for k, v in given.get(name, {}).items() if k in ("supercategory", "skeleton")}
        found.append({"id": number, "name": name, **more, **kept})
    return found


def _annotation(number: int, image: Item, item: Item, origins: bool) -> dict[str, Any]:
    found = {
        "id": number,
        "image_id": image["image_id"],
        "category_id": item["category_id"] + 1,
        "bbox": item["bbox"],
        "area": _area(item),
        "iscrowd": item["iscrowd"],
    } | ({"origin": origin(image, item)} if origins else {})
    if (segmentation := item.get("segmentation")) is not None:
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
    """That of the mask where there is one, as COCO's sizes small, medium and large mean it."""
    segmentation = item.get("segmentation")
    if isinstance(segmentation, list):
        return float(sum(_polygon_area(polygon) for polygon in segmentation))
    if segmentation is not None:
        return float(coco_mask.area(segmentation))
    width, height = item["bbox"][2:4]
    area = width * height
    return area if math.isfinite(area) else 0.0


def _polygon_area(polygon: list[float]) -> float:
    xs, ys = polygon[::2], polygon[1::2]
    pairs = zip(xs, ys, xs[1:] + xs[:1], ys[1:] + ys[:1], strict=True)
    return abs(sum(x0 * y1 - x1 * y0 for x0, y0, x1, y1 in pairs)) / 2
