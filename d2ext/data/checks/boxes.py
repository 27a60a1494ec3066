"""Boxes that cannot be learned from, or hardly as they are meant."""

import numpy as np

from d2ext.data.checks.subject import Floats, Mask, Subject, every, positions, some

_SLACK = 0.5  # pixels that a box may reach beyond its image: rounding
_ROUNDING = 1e-5  # the same of the corners of rotated boxes, which are computed
_TINY = 2  # pixels; thinner boxes are a slip of the hand
_STRIP, _LONG = 5, 3  # pixels, and times longer than wide: what is left of something cut off
_RADIANS = 3.15
_FEW = 4  # boxes that say nothing about all


def check_boxes(subject: Subject) -> None:
    """Look at each box by itself; those of a wrong unit are not looked at any further."""
    if not len(subject.objects):
        return
    wrong_unit = _find_wrong_units(subject)
    if wrong_unit is not None:
        code, detail = wrong_unit
        for number in range(len(subject.objects)):
            subject.add_object(code, number, f"{subject.shown_box(number)}{detail}")
        return
    _find_unusable(subject)
    _find_doubtful(subject)
    if subject.rotated:
        _find_rotated(subject)
    for number, item in enumerate(subject.objects):
        if item.get("difficult"):
            subject.add_object("object-difficult", number, "marked difficult")


def corners_for_sizes(boxes: Floats, frames: Floats) -> bool:
    """Whether (N, 4) boxes taken for XYWH are XYXY: half leave the image, none does as corners."""
    reach = boxes[:, :2] + boxes[:, 2:] > frames + _SLACK
    ordered = (boxes[:, 2:] > boxes[:, :2]).all() and (boxes[:, 2:] <= frames + _SLACK).all()
    return bool(len(boxes) >= _FEW and ordered and reach.any(1).mean() >= 0.5)


def normalised(boxes: Floats, frames: Floats) -> bool:
    """Whether (N, 4) boxes are shares of the image instead of pixels."""
    return bool(len(boxes) >= _FEW and boxes.min() >= 0 and boxes.max() <= 1 and frames.min() > 8)


def _find_wrong_units(subject: Subject) -> tuple[str, str] | None:
    finite = every(np.isfinite(subject.raw_boxes))
    boxes, frames = subject.raw_boxes[finite, :4], subject.frames[finite]
    if not len(boxes):
        return None
    if normalised(boxes, frames):
        return "box-normalised", " in an image of many pixels"
    if not subject.rotated and corners_for_sizes(boxes, frames):
        return "box-corners", " fits its image as two corners"
    return None


def _find_unusable(subject: Subject) -> None:
    raw, boxes, frames = subject.raw_boxes, subject.boxes, subject.frames
    finite = every(np.isfinite(raw))
    empty = finite & some(raw[:, 2:4] <= 0)
    outside = finite & ~empty & some((boxes[:, :2] >= frames) | (boxes[:, 2:] <= 0))
    _add_all(subject, "box-nonfinite", ~finite)
    _add_all(subject, "box-empty", empty)
    for number in positions(outside):
        subject.add_object("box-outside", number, f"{_in_frame(subject, number)}")


def _find_doubtful(subject: Subject) -> None:
    boxes, frames, usable = subject.boxes, subject.frames, subject.usable & ~subject.crowd
    sides = subject.raw_boxes[:, 2:4]
    beyond = np.maximum(-boxes[:, :2], boxes[:, 2:] - frames).max(1)
    tiny = usable & some(sides < _TINY)
    whole = usable & every((boxes[:, :2] <= 1) & (boxes[:, 2:] >= frames - 1))
    _add_all(subject, "box-tiny", tiny)
    _add_all(subject, "box-sliver", usable & ~tiny & _slivers(subject))
    _add_all(subject, "box-whole-image", whole)
    code, slack = ("box-corner-outside", _ROUNDING) if subject.rotated else ("box-beyond", _SLACK)
    for number in positions(usable & (beyond > slack)):
        detail = f"{_in_frame(subject, number)}, by {beyond[number]:.2g} pixels"
        subject.add_object(code, number, detail)


def _slivers(subject: Subject) -> Mask:
    sides = subject.raw_boxes[:, 2:4]
    at_edge = some((subject.boxes[:, :2] <= 1) | (subject.boxes[:, 2:] >= subject.frames - 1))
    return at_edge & (sides.min(1) < _STRIP) & (sides.max(1) >= _LONG * sides.min(1))


def _find_rotated(subject: Subject) -> None:
    angles = subject.raw_boxes[subject.usable, 4]
    turned = angles[angles % 90 != 0]
    if len(turned) >= _FEW and np.abs(angles).max() <= _RADIANS:
        for number in positions(subject.usable):
            subject.add_object("box-radians", number, f"angle {subject.raw_boxes[number, 4]:.4g}")


def _add_all(subject: Subject, code: str, which: Mask) -> None:
    for number in positions(which):
        subject.add_object(code, number, subject.shown_box(number))


def _in_frame(subject: Subject, number: int) -> str:
    width, height = subject.frames[number].astype(int)
    return f"{subject.shown_box(number)} in {width} x {height}"
