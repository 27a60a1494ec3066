"""Confusion matrix: match detections to ground truth regardless of class.

Detections are matched in the order of falling score, from `score_threshold` on, which as many reach
as there are objects. Each is matched to the object that it overlaps most, of any class, if that
object is unmatched and the IoU is at least 0.5. An unmatched detection that lies in a crowd region
by half of its area is ignored. Objects without a box are ignored, too.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from d2ext.visualization.drawing import NamedClasses
from d2ext.visualization.predictions import score_threshold
from detectron2.structures import BoxMode

IOU = 0.5


@dataclass(frozen=True)
class DetectionMatch:
    """A detection, matched or not, or a missed object.

    Args:
        image: index of the image among the records.
        box: XYXY pixels.
        score: of the detection; 0 for a missed object.
        truth: class of the matched object; None for an unmatched detection.
        found: class of the detection; None for a missed object.
    """

    image: int
    box: tuple[float, float, float, float]
    score: float
    truth: int | None
    found: int | None

    @property
    def correct(self) -> bool:
        return self.truth == self.found


def match_detections(
    records: Sequence[Mapping[str, Any]],
    results: Sequence[dict[str, Any]],
    metadata: NamedClasses,
) -> tuple[list[DetectionMatch], float]:
    """Match the detections of a data set to its objects; the module says how.

    Args:
        records: Detectron2's dicts of a data set.
        results: detections in COCO's results format.
        metadata: of the data set.
    Returns:
        Matches ordered by image, and the score threshold.
    """
    contiguous = metadata.get("thing_dataset_id_to_contiguous_id", None) or {}
    objects = [a for record in records for a in record.get("annotations", ()) if "bbox" in a]
    threshold = score_threshold(results, sum(not a.get("iscrowd", 0) for a in objects))
    by_image = defaultdict(list)
    for item in results:
        if item["score"] >= threshold:
            class_id = contiguous.get(item["category_id"], item["category_id"])
            by_image[item["image_id"]].append((item["score"], class_id, item["bbox"]))
    return [
        match
        for position, record in enumerate(records)
        for match in _of_image(position, record, by_image.get(record["image_id"], []))
    ], threshold


def confusion_matrix(matches: Sequence[DetectionMatch], classes: int) -> np.ndarray:
    """Count matches in a (classes + 1, classes + 1) matrix: rows true, columns predicted class.

    The last row holds unmatched detections, the last column missed objects.
    """
    matrix = np.zeros((classes + 1, classes + 1), dtype=np.int64)
    for match in matches:
        row = classes if match.truth is None else match.truth
        column = classes if match.found is None else match.found
        matrix[row, column] += 1
    return matrix


def _of_image(
    position: int, record: Mapping[str, Any], found: list[tuple[float, int, list[float]]]
) -> list[DetectionMatch]:
    everything = [a for a in record.get("annotations", ()) if "bbox" in a]
    objects = [a for a in everything if not a.get("iscrowd", 0)]
    crowds = [a for a in everything if a.get("iscrowd", 0)]
    found = sorted(found, key=lambda item: -item[0])
    boxes = np.array([item[2] for item in found], dtype=float).reshape(-1, 4)
    overlaps = _overlaps(boxes, objects, crowd=False)
    in_crowd = _overlaps(boxes, crowds, crowd=True).max(axis=1, initial=0) >= IOU
    matches, matched = [], set()
    for row, (score, class_id, box) in enumerate(found):
        # Of any class: a wrong class is a confusion, not a false and a missed detection.
        best = int(overlaps[row].argmax()) if objects else -1
        truth = None
        if objects and overlaps[row, best] >= IOU and best not in matched:
            matched.add(best)
            truth = int(objects[best]["category_id"])
        elif in_crowd[row]:
            continue
        matches.append(DetectionMatch(position, _corners(box), score, truth, class_id))
    missed = [a for i, a in enumerate(objects) if i not in matched]
    return matches + [
        DetectionMatch(position, _corners(_xywh(a)), 0.0, int(a["category_id"]), None)
        for a in missed
    ]


def _overlaps(boxes: np.ndarray, objects: Sequence[Mapping[str, Any]], crowd: bool) -> np.ndarray:
    """Return (N, M) IoU; for crowds the share of each box's area inside of them."""
    if not len(boxes) or not objects:
        return np.zeros((len(boxes), len(objects)))
    others = np.array([_xywh(a) for a in objects], dtype=float)
    return coco_mask.iou(boxes, others, [crowd] * len(others))


def _xywh(annotation: Mapping[str, Any]) -> list[float]:
    return list(
        BoxMode.convert(list(annotation["bbox"]), annotation["bbox_mode"], BoxMode.XYWH_ABS)
    )


def _corners(box: Sequence[float]) -> tuple[float, float, float, float]:
    x, y, width, height = box
    return x, y, x + width, y + height
