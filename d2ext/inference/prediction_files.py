"""What the prediction command writes of an image: a picture, and an entry of the JSON."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from d2ext.files import replacing
from d2ext.visualization import annotate
from d2ext.visualization.drawing import class_name
from detectron2.structures import Instances

_READABLE = 640  # pixels: pictures of smaller images are enlarged towards this, for their labels


def annotated(image: np.ndarray, found: Instances, names: list[str]) -> np.ndarray:
    """The (H, W, 3) RGB image, enlarged if it is small, with what was found drawn in."""
    scale = max(1, _READABLE // max(image.shape[:2]))
    return annotate(image, found, {"thing_classes": names}, scale)


def save_picture(path: Path, picture: np.ndarray) -> None:
    """Write (H, W, 3) RGB as the suffix says."""
    with replacing(path) as temporary:
        Image.fromarray(picture).save(temporary, quality=92)


def detections_of(found: Instances, names: list[str]) -> list[dict[str, Any]]:
    """Box, score, class and, where there are some, mask and keypoints of each."""
    boxes, classes = found.pred_boxes.tensor.tolist(), found.pred_classes.tolist()
    detections: list[dict[str, Any]] = [
        {
            "box": [round(value, 2) for value in box],
            "score": round(score, 4),
            "class_id": class_id,
            "class_name": class_name(class_id, {"thing_classes": names}),
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
    return detections


def write_results(path: Path, content: dict[str, Any]) -> None:
    """Write the JSON."""
    with replacing(path) as temporary:
        text = json.dumps(content, indent=1, ensure_ascii=False)
        temporary.write_text(text, encoding="utf-8")
