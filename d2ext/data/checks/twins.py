"""Objects that stand twice in an image."""

import numpy as np
import torch

from d2ext.data.checks.subject import Floats, Integers, Subject
from d2ext.ops import box_iou_rotated

SAME = 0.999  # IoU from which two boxes are the same
_NEARLY, _CLASHING = 0.8, 0.9


def check_twins(subject: Subject) -> None:
    """Compare the boxes of each image by IoU; crowd regions are left out."""
    counted = subject.usable & ~subject.crowd
    numbers = np.flatnonzero(counted)
    owners = subject.owners[numbers]
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    for group in np.split(numbers, starts[1:]):
        if len(group) > 1:
            _compare(subject, group)


def overlaps(boxes: Floats) -> Floats:
    """(N, 4) XYXY or (N, 5) XYWHA -> (N, N) IoU; boxes have an area."""
    if boxes.shape[1] == 5:
        tensor = torch.from_numpy(boxes)
        return box_iou_rotated(tensor, tensor).numpy()
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = (high - low).clip(0).prod(-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    return shared / (areas[:, None] + areas - shared)


def _compare(subject: Subject, group: Integers) -> None:
    boxes = subject.raw_boxes if subject.rotated else subject.boxes
    ious = np.tril(overlaps(boxes[group]), -1)
    told: set[int] = set()
    for later, earlier in zip(*np.nonzero(ious >= _NEARLY), strict=True):
        iou = ious[later, earlier]
        code = _code(iou, subject.labels[group[later]] == subject.labels[group[earlier]])
        if code and later not in told:
            told.add(later)
            subject.add_object(code, group[later], _detail(subject, group[earlier], iou))


def _code(iou: float, same_class: bool) -> str:
    if same_class:
        return "box-duplicate" if iou >= SAME else "box-nearly-duplicate"
    return "box-two-classes" if iou >= _CLASHING else ""


def _detail(subject: Subject, other: int, iou: float) -> str:
    name = subject.source.classes[subject.labels[other]]
    return f"IoU {iou:.2f} with {name} at {subject.place(other)}"
