"""Box checks: degenerate, out of bounds, implausible size or unit, duplicate, too small to learn.

All of them concern the objects that have a box; objects of other kinds of data are skipped.
"""

from collections.abc import Iterator

import numpy as np
import torch

from d2ext.data.box_validity import Floats, Mask, wrong_unit
from d2ext.data.checks.context import CheckContext
from d2ext.data.checks.input_size import InputSize
from d2ext.data.checks.pairs import Integers, pairs_by_left_side
from d2ext.ops import matched_iou_rotated

_SLACK = 0.5  # pixels that a box may reach beyond its image: rounding
_ROUNDING = 1e-5  # the same for the corners of rotated boxes, which are computed
_TINY = 2  # pixels; thinner boxes come from a slip of the mouse
_STRIP, _LONG = 5, 3  # pixels, and length by width, of what is left of an object cut off
_RADIANS = 3.15
_FEW = 4  # fewer boxes are no evidence of a wrong unit

_SAME = 0.999  # IoU from which two boxes are the same
_NEAR, _CLASHING = 0.8, 0.9
# With an IoU of 0.8 a fifth of one rotated box at most is left of the other. Of a shape that is
# convex and symmetric about its centre, a square on its corner has the least there: 2 t^2 of its
# area within the share t of its width.
_ROTATED_REACH = ((1 - _NEAR) / 2) ** 0.5


def check_boxes(context: CheckContext) -> None:
    """Check each box by itself; boxes of a wrong unit are not checked any further."""
    if not context.boxed.any():
        return
    if code := wrong_unit(context.raw_boxes[context.boxed], context.frames[context.boxed]):
        for number in np.flatnonzero(context.boxed).tolist():
            context.add_object(code, number, f"{context.box_text(number)}{_UNITS[code]}")
        return
    _check_invalid(context)
    _check_implausible(context)
    if context.rotated:
        _check_radians(context)


def check_difficult(context: CheckContext) -> None:
    """Report the objects that are marked difficult."""
    for number, item in enumerate(context.objects):
        if item.get("difficult"):
            context.add_object("object-difficult", number, "marked difficult")


_UNITS = {
    "box-normalised": " in an image of many pixels",
    "box-corners": " fits its image as two corners",
}


def _check_invalid(context: CheckContext) -> None:
    context.add_objects("box-nonfinite", context.invalid["box-nonfinite"])
    context.add_objects("box-empty", context.invalid["box-empty"])
    for number in np.flatnonzero(context.invalid["box-outside"]).tolist():
        context.add_object("box-outside", number, _box_in_image(context, number))


def _check_implausible(context: CheckContext) -> None:
    # Crowd regions are drawn roughly by intention.
    boxes, frames, usable = context.boxes, context.frames, context.usable & ~context.crowd
    with np.errstate(invalid="ignore"):
        tiny = usable & (_shorter_side(context) < _TINY)
        beyond = _columns_max(np.maximum(-boxes[:, :2], boxes[:, 2:] - frames))
        whole = usable & _both(boxes[:, :2] <= 1) & _both(boxes[:, 2:] >= frames - 1)
        slivers = usable & ~tiny & _slivers(context)
        code, slack = (
            ("box-corner-outside", _ROUNDING) if context.rotated else ("box-beyond", _SLACK)
        )
        outside = usable & (beyond > slack)
    context.add_objects("box-tiny", tiny)
    context.add_objects("box-sliver", slivers)
    context.add_objects("box-whole-image", whole)
    for number in np.flatnonzero(outside).tolist():
        detail = f"{_box_in_image(context, number)}, by {beyond[number]:.2g} pixels"
        context.add_object(code, number, detail)


def _slivers(context: CheckContext) -> Mask:
    """Return a mask of the narrow strips that lie at an edge of their image."""
    boxes, frames = context.boxes, context.frames
    at_edge = _either(boxes[:, :2] <= 1) | _either(boxes[:, 2:] >= frames - 1)
    short = _shorter_side(context)
    return at_edge & (short < _STRIP) & (_columns_max(context.raw_boxes[:, 2:4]) >= _LONG * short)


def _check_radians(context: CheckContext) -> None:
    angles = context.raw_boxes[context.usable, 4]
    # Upright boxes alone, at 0 degrees, would pass for radians.
    turned = angles[angles % 90 != 0]
    if len(turned) >= _FEW and np.abs(angles).max() <= _RADIANS:
        for number in np.flatnonzero(context.usable).tolist():
            context.add_object("box-radians", number, f"angle {context.raw_boxes[number, 4]:.4g}")


def _box_in_image(context: CheckContext, number: int) -> str:
    width, height = context.frames[number].astype(int)
    return f"{context.box_text(number)} in {width} x {height}"


# Reductions over two columns; `all(axis=1)` and the like take several times as long.
def _both(mask: Mask) -> Mask:
    return mask[:, 0] & mask[:, 1]


def _either(mask: Mask) -> Mask:
    return mask[:, 0] | mask[:, 1]


def _columns_max(values: Floats) -> Floats:
    return np.maximum(values[:, 0], values[:, 1])


def _shorter_side(context: CheckContext) -> Floats:
    return np.minimum(context.raw_boxes[:, 2], context.raw_boxes[:, 3])


def check_duplicate_boxes(context: CheckContext) -> None:
    """Compare the boxes of each image by IoU; crowd regions are skipped.

    Each box is reported once, with the first earlier box that it duplicates.
    """
    numbers = np.flatnonzero(context.usable & ~context.crowd)
    firsts, ious = _first_duplicates(context, numbers)
    for later in np.flatnonzero(firsts < len(firsts)).tolist():
        earlier, iou = int(firsts[later]), float(ious[later])
        code = _duplicate_code(iou, bool(context.labels[later] == context.labels[earlier]))
        name = context.split.classes[context.labels[earlier]]
        detail = f"IoU {iou:.2f} with {name} at {context.place(earlier)}"
        context.add_object(code, later, detail)


def _duplicate_code(iou: float, same_class: bool) -> str:
    if same_class:
        return "box-duplicate" if iou >= _SAME else "box-nearly-duplicate"
    return "box-two-classes"


def _first_duplicates(context: CheckContext, numbers: Integers) -> tuple[Integers, Floats]:
    """Return the first earlier object that each of the N objects duplicates, N for none; its IoU.

    Args:
        numbers: (K,) objects to compare.
    """
    firsts = np.full(len(context.objects), len(context.objects))
    ious = np.zeros(len(firsts))
    for later, earlier, iou in _near_pairs(context, numbers):
        clashing = (context.labels[later] == context.labels[earlier]) | (iou >= _CLASHING)
        new = np.flatnonzero(clashing & (earlier < firsts[later]))
        # Of a chunk's pairs the first object comes last: the assignment keeps the last one.
        new = new[np.argsort(-earlier[new], kind="stable")]
        firsts[later[new]], ious[later[new]] = earlier[new], iou[new]
    return firsts, ious


def _near_pairs(
    context: CheckContext, numbers: Integers
) -> Iterator[tuple[Integers, Integers, Floats]]:
    """Yield the later and the earlier object, and the IoU of 0.8 or more, of pairs in one image."""
    boxes = context.boxes[numbers]
    # With an IoU of 0.8 the union is at most 1 / 0.8 as wide as the narrower box.
    share = _ROTATED_REACH if context.rotated else 1 / _NEAR - 1
    reach = share * (boxes[:, 2] - boxes[:, 0])
    for later, earlier in pairs_by_left_side(boxes[:, 0], reach, context.owners[numbers]):
        if context.rotated:
            near = np.flatnonzero(_are_close(boxes[later], boxes[earlier]))
            later, earlier = later[near], earlier[near]
            ious = _rotated_ious(context, numbers[later], numbers[earlier])
        else:
            ious = _pairwise_iou(boxes[later], boxes[earlier])
        near = np.flatnonzero(ious >= _NEAR)
        yield numbers[later[near]], numbers[earlier[near]], ious[near]


def _are_close(boxes: Floats, others: Floats) -> Mask:
    """Return a mask of the pairs of enclosing boxes whose rotated boxes may be near-duplicates."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], others[:, 2:] - others[:, :2])
    apart, reach = np.abs(boxes - others), _ROTATED_REACH * sides + _ROUNDING
    return _both(apart[:, :2] <= reach) & _both(apart[:, 2:] <= reach)


def _rotated_ious(context: CheckContext, numbers: Integers, others: Integers) -> Floats:
    rotated = torch.from_numpy(context.raw_boxes)
    return matched_iou_rotated(rotated[numbers], rotated[others]).numpy()


def _pairwise_iou(boxes: Floats, others: Floats) -> Floats:
    """Compute the IoU, (K,), of (K, 4) XYXY boxes with (K, 4) others; all have an area."""
    low = np.maximum(boxes[:, :2], others[:, :2])
    sides = (np.minimum(boxes[:, 2:], others[:, 2:]) - low).clip(0)
    shared = sides[:, 0] * sides[:, 1]
    return shared / (_areas(boxes) + _areas(others) - shared)


def _areas(boxes: Floats) -> Floats:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def check_object_sizes(context: CheckContext) -> None:
    """Compare the objects, as large as the model sees them, with its strides and anchors."""
    numbers = np.flatnonzero(context.usable & ~context.crowd)
    if context.model is None or not len(numbers):
        return
    scales = context.model.scales(context.frames[numbers])
    sides = context.raw_boxes[numbers, 2:4] * scales[:, None]
    for code, mask, limit in _size_limits(context.model, sides[:, 0], sides[:, 1]):
        for index in np.flatnonzero(mask).tolist():
            width, height = sides[index]
            context.add_object(code, numbers[index], f"{width:.1f} x {height:.1f} pixels, {limit}")


def _size_limits(model: InputSize, width: Floats, height: Floats) -> list[tuple[str, Mask, str]]:
    """Return code, (K,) mask and limit of each size issue of (K,) object sides in pixels."""
    side, ratio = np.sqrt(width * height), height / width
    found = [("object-below-stride", side < model.stride, f"stride {model.stride}")]
    if not model.anchor_sizes:
        return found
    least, most = min(model.anchor_sizes), max(model.anchor_sizes)
    found += [
        ("object-below-anchors", side < least / 2, f"smallest anchor {least:g}"),
        ("object-above-anchors", side > most * 2, f"largest anchor {most:g}"),
    ]
    if model.anchor_ratios:
        low, high = min(model.anchor_ratios), max(model.anchor_ratios)
        far = (ratio < low / 3) | (ratio > high * 3)
        found.append(("object-aspect", far, f"anchors from {low:g} to {high:g}"))
    return found
