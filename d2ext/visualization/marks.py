"""Convert annotations, predictions and COCO results of an image to marks that can be drawn."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from d2ext.data.formats.coco_geometry import parse_segmentation
from d2ext.data.formats.corners import corners_of
from d2ext.data.mask_validity import MAX_PIXELS, invalid_mask
from d2ext.visualization.drawing import Mark, NamedClasses, color_of, draw, label_of
from detectron2.structures import BoxMode, Instances

Box = tuple[float, float, float, float]  # XYXY pixels


def annotate(
    image: np.ndarray, instances: Instances, metadata: NamedClasses, scale: float = 1.0
) -> np.ndarray:
    """Draw predicted instances on a scaled copy of an image.

    Args:
        image: (H, W, 3) RGB, uint8.
        instances: `pred_boxes`, `pred_classes`, `scores` and, where there, `pred_masks` and
            `pred_keypoints`, in pixels of `image`; `track_ids` choose the colours.
        metadata: `thing_classes` names and `thing_colors` colours the classes; both may be missing.
        scale: size of the result relative to `image`.

    Returns:
        (scale * H, scale * W, 3) RGB, uint8.
    """
    return draw(image, marks_of_instances(instances, metadata), scale)


def marks_of_instances(instances: Instances, metadata: NamedClasses) -> list[Mark]:
    """Convert predicted instances; see `annotate` for their fields."""
    found = instances.to("cpu")
    masks: Sequence[np.ndarray | None] = (
        found.pred_masks.numpy() > 0.5 if found.has("pred_masks") else [None] * len(found)
    )
    boxes, classes = found.pred_boxes.tensor.tolist(), found.pred_classes.tolist()
    if found.pred_boxes.tensor.shape[1] == 5:
        upright = [_upright(box, BoxMode.XYWHA_ABS) for box in boxes]
        boxes = [box for box, _ in upright]
        masks = [_decode(outline, *found.image_size) for _, outline in upright]
    marks = [
        _predicted(*row, metadata)
        for row in zip(boxes, classes, found.scores.tolist(), masks, strict=True)
    ]
    if found.has("track_ids"):
        pairs = zip(marks, found.track_ids.tolist(), strict=True)
        marks = [_tracked(mark, number) for mark, number in pairs]
    if not found.has("pred_keypoints"):
        return marks
    points = found.pred_keypoints[:, :, :2].tolist()
    return [replace(mark, points=own) for mark, own in zip(marks, points, strict=True)]


def _tracked(mark: Mark, number: int) -> Mark:
    """Colour and label a mark by the number of its track."""
    text = f"#{number} {mark.text}"
    return replace(mark, color=color_of(number, {}), text=text, short=f"#{number}")


def marks_of_results(
    results: Iterable[Mapping[str, Any]], metadata: NamedClasses, height: int, width: int
) -> list[Mark]:
    """Convert the detections of one image in COCO's results format."""
    contiguous = metadata.get("thing_dataset_id_to_contiguous_id", None) or {}
    marks = []
    for item in results:
        class_id = contiguous.get(item["category_id"], item["category_id"])
        box, outline = _upright(item["bbox"], BoxMode.XYWH_ABS)
        mask = _decode(item.get("segmentation") or outline, height, width)
        found = _predicted(box, class_id, item["score"], mask, metadata)
        # COCO's results name pixels by their index; a pixel's centre is half a pixel further.
        marks.append(replace(found, points=_labelled(item.get("keypoints", ()), 0.5)))
    return marks


def marks_of_annotations(
    record: Mapping[str, Any], metadata: NamedClasses, masks: bool = True
) -> list[Mark]:
    """Convert the ground truth of an image, in Detectron2's standard dictionary.

    An object without a "bbox" has the box around its mask or keypoints; one without any of these
    has no place in the image and is left out.
    """
    marks = []
    for item in record.get("annotations", ()):
        box, rotated = _upright(item["bbox"], item["bbox_mode"]) if "bbox" in item else (None, None)
        outline = rotated or (item.get("segmentation") if masks or box is None else None)
        mask = _decode(outline, record["height"], record["width"])
        points = _labelled(item.get("keypoints", ()), 0.0)
        box = box if box is not None else _enclosing_box(mask, points)
        if box is None:
            continue
        class_id, crowd = item["category_id"], " (crowd)" if item.get("iscrowd", 0) else ""
        text, color = label_of(class_id, metadata) + crowd, color_of(class_id, metadata)
        shown = mask if masks or rotated else None
        marks.append(Mark(box, color, text, mask=shown, points=points))
    return marks


def _enclosing_box(mask: np.ndarray | None, points: Sequence[tuple[float, float]]) -> Box | None:
    if mask is not None and mask.any():
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    if not points:
        return None
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _labelled(keypoints: Sequence[float], shift: float) -> list[tuple[float, float]]:
    """Return (x, y) of the labelled keypoints; `keypoints` is x, y, visibility, x, y, ..."""
    triples = zip(*[iter(keypoints)] * 3, strict=True)
    return [(x + shift, y + shift) for x, y, visible in triples if visible]


def _upright(box: Sequence[float], mode: BoxMode) -> tuple[Any, list[list[float]] | None]:
    """Return a box as XYXY; of a rotated one the enclosing box and the corners as a polygon."""
    if len(box) == 5:
        corners = corners_of(box)
        xs, ys = corners[::2], corners[1::2]
        return (min(xs), min(ys), max(xs), max(ys)), [corners]
    return BoxMode.convert(tuple(box), mode, BoxMode.XYXY_ABS), None


def _predicted(
    box: Sequence[float],
    class_id: int,
    score: float,
    mask: np.ndarray | None,
    metadata: NamedClasses,
) -> Mark:
    short = f"{score:.2f}"
    text = f"{label_of(class_id, metadata)} {short}"
    return Mark(box, color_of(class_id, metadata), text, short, score, mask)


def _decode(segmentation: Any, height: int, width: int) -> np.ndarray | None:
    """Decode polygons or run lengths, compressed or not, to (H, W) booleans; None if broken."""
    if not segmentation or height * width > MAX_PIXELS:
        return None
    if isinstance(segmentation, list):  # transformed polygons are arrays
        segmentation = [np.asarray(polygon).tolist() for polygon in segmentation]
    valid = parse_segmentation(segmentation, {"width": width, "height": height})
    problem = invalid_mask(valid, width, height)
    if valid is None or (problem is not None and problem[0] != "mask-empty"):
        return None
    if isinstance(valid, list):
        valid = coco_mask.merge(coco_mask.frPyObjects(valid, height, width))
    return coco_mask.decode(valid).astype(bool)
