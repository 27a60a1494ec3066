"""Files that the prediction command writes: annotated images and predictions.json."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from d2ext.files import replacing
from d2ext.text import class_name
from detectron2.structures import Instances


def save_picture(path: Path, picture: np.ndarray) -> None:
    """Write an (H, W, 3) RGB uint8 image in the format that the suffix names."""
    with replacing(path) as temporary:
        Image.fromarray(picture).save(temporary, quality=92)


def detections_of(found: Instances, names: Sequence[str]) -> list[dict[str, Any]]:
    """Convert instances to JSON objects: box, score, class and, where present, mask and keypoints.

    Boxes are x0, y0, x1, y1 in pixels (rotated ones x, y, width, height and degrees), masks COCO's
    compressed run lengths, keypoints x, y, score. `track_ids` become "track_id".
    """
    boxes, classes = found.pred_boxes.tensor.tolist(), found.pred_classes.tolist()
    detections: list[dict[str, Any]] = [
        {
            "box": [round(value, 2) for value in box],
            "score": round(score, 4),
            "class_id": class_id,
            "class_name": class_name(class_id, names),
        }
        for box, score, class_id in zip(boxes, found.scores.tolist(), classes, strict=True)
    ]
    if found.has("pred_masks"):
        for detection, mask in zip(detections, found.pred_masks.numpy(), strict=True):
            runs = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
            detection["mask"] = {"size": runs["size"], "counts": runs["counts"].decode("ascii")}
    if found.has("pred_keypoints"):
        for detection, points in zip(detections, found.pred_keypoints.tolist(), strict=True):
            detection["keypoints"] = [[round(value, 2) for value in point] for point in points]
    if found.has("track_ids"):
        for detection, number in zip(detections, found.track_ids.tolist(), strict=True):
            detection["track_id"] = number
    return detections


def write_results(path: Path, content: dict[str, Any]) -> None:
    """Write predictions.json."""
    with replacing(path) as temporary:
        text = json.dumps(content, indent=1, ensure_ascii=False)
        temporary.write_text(text, encoding="utf-8")
