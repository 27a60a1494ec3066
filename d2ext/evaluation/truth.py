"""COCO files that detections are compared with, validated before C code decodes their masks."""

import contextlib
import io
from pathlib import Path
from typing import Any, TypeVar

from d2ext.data.detection_files import are_finite
from d2ext.data.formats.coco_document import Item, check_fields, read_json, with_coco_keys
from d2ext.data.formats.coco_geometry import are_near_polygons, parse_segmentation
from d2ext.data.formats.coco_images import IDS
from d2ext.data.mask_validity import invalid_mask
from d2ext.errors import DataError

_LARGEST_AREA = 1e18  # square pixels, of the largest boxes

Api = TypeVar("Api")  # pycocotools' COCO or faster-coco-eval's


def read_truth(json_file: str | Path) -> dict[str, Any]:
    """Read the images, annotations and categories of a COCO file.

    The file may be one that d2ext has not registered, and so has not cleaned. Annotations without
    "iscrowd" or "area" get 0 and the area of their box.

    Raises:
        DataError: the file is no COCO file, or an annotation cannot be measured.
    """
    path = Path(json_file)
    document = with_coco_keys(path, read_json(path)[0])
    for section in ("images", "categories", "annotations"):
        check_fields(path, section, document[section])
    images = {image["id"]: image for image in document["images"] if isinstance(image["id"], IDS)}
    for number, item in enumerate(document["annotations"], start=1):
        if problem := _problem(item, images):
            raise DataError(
                f"{path}: annotation {item.get('id', number)}: {problem}. Correct or remove it; "
                "d2ext-check-data lists what else is wrong."
            )
        item.setdefault("iscrowd", 0)
        item.setdefault("area", item["bbox"][2] * item["bbox"][3])
    document.setdefault("info", {})  # some versions of pycocotools copy it unasked
    return document


def index_truth(api: Api, json_file: str | Path) -> Api:
    """Fill an empty `COCO` of pycocotools or faster-coco-eval with a file; see `read_truth`."""
    api.dataset = read_truth(json_file)  # type: ignore[attr-defined]
    with contextlib.redirect_stdout(io.StringIO()):  # it prints
        api.createIndex()  # type: ignore[attr-defined]
    return api


def _problem(item: Item, images: dict[Any, Item]) -> str:
    """Say what is wrong with an annotation; "" for a valid one."""
    image = images.get(item["image_id"]) if isinstance(item["image_id"], IDS) else None
    if image is None:
        return f"there is no image {item['image_id']!r:.80}"
    if not isinstance(item["category_id"], IDS) or not isinstance(item.get("id"), IDS):
        return '"id" and "category_id" must be whole numbers'
    box = item.get("bbox")
    if not isinstance(box, list) or len(box) not in (4, 5) or not are_finite(box):
        return '"bbox" must be four or five numbers'
    if not are_finite([item.get("area", 0), item.get("iscrowd", 0)], _LARGEST_AREA):
        return '"area" and "iscrowd" must be numbers'
    return _mask_problem(item, image)


def _mask_problem(item: Item, image: Item) -> str:
    mask, size = item.get("segmentation"), (image["width"], image["height"])
    if not mask:
        return ""
    if not all(isinstance(side, int) for side in size):
        return '"width" and "height" of its image must be whole numbers'
    if isinstance(mask, list):
        valid = are_near_polygons(mask, *size)
        return "" if valid else "polygons need three points or more, in the image or near it"
    if (parsed := parse_segmentation(mask, image)) is None:
        return "broken run lengths"
    item["segmentation"] = parsed
    code, detail = invalid_mask(parsed, *size) or ("", "")
    return "" if code == "mask-empty" else detail
