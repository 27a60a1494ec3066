"""COCO's JSON: boxes, polygons, run lengths, crowds, keypoints, boxes with an angle, panoptic."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from d2ext.data import checks
from d2ext.data.formats.coco_images import categories, image_items, is_id
from d2ext.data.formats.coco_layout import CocoSplit, find
from d2ext.data.formats.dataset_split import DatasetSplit, Fault, Item, Task
from d2ext.data.formats.panoptic import read_panoptic
from d2ext.data.formats.semantic import is_mask_list, read_mask_list
from detectron2.structures import BoxMode

__all__ = ["FORMAT", "CocoSplit", "find", "load", "read_document"]

FORMAT = "COCO"


def load(part: CocoSplit) -> DatasetSplit:
    """Read a JSON file of any of COCO's kinds.

    Raises:
        DataError: it cannot be read, is no COCO file, has no images or none of them is found.
    """
    document = checks.parse_json(part.path, checks.read_text(part.path))
    return read_document(part, document)


def read_document(part: CocoSplit, document: Any) -> DatasetSplit:
    """`load`, of what the file holds."""
    if is_mask_list(document):
        return read_mask_list(part, document)
    if _is_panoptic(document):
        return read_panoptic(part, document)
    document = checks.with_coco_keys(part.path, document)
    return _Reader(part, document).read()


class _Reader:
    """Turns a document with images, annotations and categories into a `DatasetSplit`."""

    def __init__(self, part: CocoSplit, document: Item) -> None:
        self.part, self.document = part, document
        self.faults: list[Fault] = []

    def read(self) -> DatasetSplit:
        classes, indices = categories(self.part.path, self.document["categories"])
        images = image_items(self.part, self.document["images"], self.faults)
        by_id = {image["image_id"]: image for image in images}
        for number, item in enumerate(self.document["annotations"], start=1):
            self._add(item, number, by_id, indices)
        return DatasetSplit(
            format=FORMAT,
            path=self.part.path,
            split=self.part.split,
            task=_settle_task(images),
            classes=classes,
            images=images,
            faults=self.faults,
            metadata=_metadata(self.document["categories"]),
        )

    def _add(
        self, item: Item, number: int, by_id: dict[Any, Item], indices: dict[Any, int]
    ) -> None:
        record = item.get("id", f"annotation {number}")
        image = by_id.get(_key(item.get("image_id")))
        if image is None:
            self._leave_out("annotation of an unknown image", record, None, item.get("image_id"))
            return
        category = indices.get(_key(item.get("category_id")))
        if category is None:
            self._leave_out("unknown category", record, image, item.get("category_id"))
            return
        given = item.get("segmentation")
        segmentation = _segmentation(given, image)
        if given and (segmentation is None or len(segmentation) < len(given)):
            self._leave_out("mask that is none", record, image, given)
        box = _box(item.get("bbox"), segmentation)
        if box is None:
            self._leave_out("box that is not four numbers", record, image, item.get("bbox"))
            return
        found = {
            "bbox": box,
            "bbox_mode": BoxMode.XYWHA_ABS if len(box) == 5 else BoxMode.XYWH_ABS,
            "category_id": category,
            "iscrowd": int(bool(item.get("iscrowd")) or bool(item.get("ignore"))),
            "record": record,
        }
        if segmentation:
            found["segmentation"] = segmentation
        if _is_points(item.get("keypoints")):
            found["keypoints"] = shifted(item["keypoints"], 0.5)
        elif item.get("keypoints"):
            self._leave_out("keypoints that are none", record, image, item["keypoints"])
        if item.get("difficult"):
            found["difficult"] = 1
        image["annotations"].append(found)

    def _leave_out(self, kind: str, record: object, image: Item | None, value: object) -> None:
        name = image["file_name"] if image else ""
        self.faults.append(Fault(kind, f"{self.part.path}:{record}", name, f"{value!r}"[:80]))


def shifted(keypoints: Sequence[float], by: float) -> list[float]:
    """Moved, visibilities aside: COCO names a point by its pixel, whose centre is half further."""
    return [n if i % 3 == 2 else n + by for i, n in enumerate(keypoints)]


def _is_panoptic(document: Any) -> bool:
    items = document.get("annotations") if isinstance(document, dict) else None
    first = items[0] if isinstance(items, list) and items else None
    return isinstance(first, dict) and "segments_info" in first


def _key(value: Any) -> Any:
    return value if is_id(value) else None


def _segmentation(value: Any, image: Item) -> Any:
    """Polygons that have an area, or compressed run lengths; None where there is neither."""
    if isinstance(value, dict):
        return _run_lengths(value, image)
    if isinstance(value, list):
        polygons = [polygon for polygon in value if _is_polygon(polygon)]
        return [[float(n) for n in polygon] for polygon in polygons] or None
    return None


def _is_polygon(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) >= 6
        and len(value) % 2 == 0
        and all(isinstance(n, (int, float)) and math.isfinite(n) for n in value)
    )


def _run_lengths(value: Item, image: Item) -> Item | None:
    size, counts = value.get("size"), value.get("counts")
    try:
        if isinstance(counts, list):
            height, width = size  # type: ignore[misc] # a TypeError is as good
            return coco_mask.frPyObjects({"size": size, "counts": counts}, height, width)
        if isinstance(counts, (str, bytes)) and len(size) == 2:  # type: ignore[arg-type]
            return {"size": list(size), "counts": counts}  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        pass
    return None


def _box(value: Any, segmentation: Any) -> list[float] | None:
    """Four or five numbers; the box of the mask where there are none."""
    if isinstance(value, list) and len(value) in (4, 5):
        if all(isinstance(n, (int, float)) for n in value):
            return [float(n) for n in value]
        return None
    if value not in (None, []) or segmentation is None:
        return None
    if isinstance(segmentation, dict):
        return [float(n) for n in coco_mask.toBbox(segmentation).tolist()]
    points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in segmentation])
    low, high = points.min(0), points.max(0)
    return [*low.tolist(), *(high - low).tolist()]


def _settle_task(images: list[Item]) -> Task:
    """What the annotations are good for; where one box has an angle, all get one."""
    annotations = [item for image in images for item in image["annotations"]]
    if any(len(item["bbox"]) == 5 for item in annotations):
        for item in annotations:
            if len(item["bbox"]) == 4:
                item["bbox"] = list(
                    BoxMode.convert(item["bbox"], BoxMode.XYWH_ABS, BoxMode.XYWHA_ABS)
                )
                item["bbox_mode"] = BoxMode.XYWHA_ABS
        return "rotated"
    if any("keypoints" in item for item in annotations):
        return "keypoints"
    return "masks" if any("segmentation" in item for item in annotations) else "boxes"


def _is_points(value: Any) -> bool:
    numbers = isinstance(value, list) and all(isinstance(n, (int, float)) for n in value)
    return numbers and bool(value) and len(value) % 3 == 0


def _flips(names: Sequence[str]) -> list[tuple[str, str]]:
    """Points that change places in a mirrored image, by their names."""
    pairs = [(name, name.replace("left", "right")) for name in names if "left" in name]
    return [pair for pair in pairs if pair[1] in names]


def _metadata(items: Sequence[Item]) -> dict[str, Any]:
    given = (item.get("keypoints") for item in items)
    names = next(([*map(str, one)] for one in given if one and isinstance(one, list)), None)
    points = {"keypoint_names": names, "keypoint_flip_map": _flips(names)} if names else {}
    return {"categories": list(items), **points}
