"""A data set as YOLO has it: data.yaml, images/<split>, labels/<split>."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from pycocotools import mask as coco_mask

from d2ext.data.conversion.plan import Losses, Plan, without_crowds
from d2ext.data.formats import Item
from d2ext.data.formats.corners import corners_of

_SLACK = 0.01  # pixels by which a box may differ from the one around its polygon


def write_yolo(folder: Path, plans: Sequence[Plan], losses: Losses) -> dict[str, Path]:
    """Write labels and data.yaml; returns where the images of each split belong.

    Boxes, one polygon an object, oriented boxes and keypoints fit in. Numbers have nine decimals.
    """
    places = {plan.split: folder / "images" / plan.split for plan in plans}
    points = _number_of_keypoints(plans)
    for plan in plans:
        labels = folder / "labels" / plan.split
        labels.mkdir(parents=True)
        for image, name in zip(plan.dataset.images, plan.names, strict=True):
            lines = [_line(image, item, points, losses) for item in without_crowds(image, losses)]
            text = "".join(f"{line}\n" for line in lines)
            (labels / f"{Path(name).stem}.txt").write_text(text, encoding="ascii")
    _write_yaml(folder / "data.yaml", plans, points)
    return places


def _write_yaml(file: Path, plans: Sequence[Plan], points: int) -> None:
    config: dict[str, Any] = {"path": "."}
    config |= {plan.split or "train": f"images/{plan.split}".rstrip("/") for plan in plans}
    config["names"] = dict(enumerate(plans[0].dataset.classes))
    if points:
        config["kpt_shape"] = [points, 3]
        if len(names := plans[0].dataset.metadata.get("keypoint_names") or ()) == points:
            config["kpt_names"] = {n: list(names) for n in range(len(plans[0].dataset.classes))}
        if flips := _flip_indices(plans[0].dataset.metadata):
            config["flip_idx"] = flips
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    file.write_text(text, encoding="utf-8")


def _flip_indices(metadata: dict[str, Any]) -> list[int]:
    """Return the index of each keypoint's mirror partner; [] where no pair is known."""
    names, pairs = metadata.get("keypoint_names") or (), metadata.get("keypoint_flip_map") or ()
    partner = dict(pairs) | {right: left for left, right in pairs}
    return [names.index(partner.get(name, name)) for name in names] if pairs else []


def _number_of_keypoints(plans: Sequence[Plan]) -> int:
    found = (
        len(item["keypoints"]) // 3
        for plan in plans
        for image in plan.dataset.images
        for item in image["annotations"]
        if "keypoints" in item
    )
    return max(found, default=0)


def _line(image: Item, item: Item, points: int, losses: Losses) -> str:
    if item.get("difficult"):
        losses["`difficult` flags"] += 1
    numbers = _numbers(image, item, points, losses)
    return f"{item['category_id']} {' '.join(_text(number) for number in numbers)}"


def _text(number: float) -> str:
    return f"{number:.9f}".rstrip("0").rstrip(".")


def _numbers(image: Item, item: Item, points: int, losses: Losses) -> list[float]:
    width, height = image["width"], image["height"]
    if len(item["bbox"]) == 5:
        return _shares(corners_of(item["bbox"]), width, height)
    if points:
        losses["masks of objects with keypoints"] += "segmentation" in item
        return _box(item, width, height) + _keypoints(item, points, width, height)
    if "segmentation" in item:
        polygon = _one_polygon(item["segmentation"], losses)
        if polygon is not None:
            losses["boxes that are not those of their masks"] += _differs(polygon, item["bbox"])
            return _shares(polygon, width, height)
    return _box(item, width, height)


def _box(item: Item, width: int, height: int) -> list[float]:
    x, y, w, h = item["bbox"]
    return [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]


def _keypoints(item: Item, points: int, width: int, height: int) -> list[float]:
    found = list(item.get("keypoints", ())) + [0.0] * 3 * points
    return [n / (width, height, 1)[i % 3] for i, n in enumerate(found[: 3 * points])]


def _shares(points: Sequence[float], width: int, height: int) -> list[float]:
    return [n / (width, height)[i % 2] for i, n in enumerate(points)]


def _one_polygon(segmentation: Any, losses: Losses) -> list[float] | None:
    """One outline; several are joined by lines without width, there and back."""
    if isinstance(segmentation, dict):
        losses["run-length masks turned into polygons"] += 1
        segmentation = _outlines(segmentation)
        if not segmentation:
            return None
    if len(segmentation) > 1:
        losses["masks of several parts joined by lines without width"] += 1
        start = segmentation[0][:2]
        joined = [*segmentation[0], *start]
        for part in segmentation[1:]:
            joined += [*part, *part[:2], *start]
        return joined
    # Labels that all have four corners would be read as oriented boxes.
    return (
        [*segmentation[0], *segmentation[0][:2]] if len(segmentation[0]) == 8 else segmentation[0]
    )


def _outlines(runs: Item) -> list[list[float]]:
    """Trace outlines through the centres of a mask's outer pixels, moved to their edges."""
    mask = np.repeat(np.repeat(coco_mask.decode(runs), 2, 0), 2, 1)
    found, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    outlines = [(np.ceil(points.reshape(-1, 2) / 2)).reshape(-1).tolist() for points in found]
    return [outline for outline in outlines if len(outline) >= 6]


def _differs(polygon: Sequence[float], box: Sequence[float]) -> bool:
    xs, ys = polygon[::2], polygon[1::2]
    x, y, w, h = box
    around = (min(xs), min(ys), max(xs), max(ys))
    return any(abs(a - b) > _SLACK for a, b in zip(around, (x, y, x + w, y + h), strict=True))
