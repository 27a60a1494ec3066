"""Decoding of the head's raw outputs to boxes, as plain functions of tensors.

`decode` computes every anchor's box, of fixed shape, for export; `detect` only those that pass the
threshold.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_convert, nms

from d2ext.modeling.dense_heads import PostProcess

CLASS_SHIFT = 4096.0  # pixels between the classes in NMS; larger than any input


class RawLevel(NamedTuple):
    """The raw outputs of the head at one level, before any sigmoid or softmax.

    Attributes:
        box: (B, A * 4, H, W); x, y, w, h of each anchor.
        objectness: (B, A, H, W).
        classes: (B, C, H, W); the anchors of a cell share them.
    """

    box: Tensor
    objectness: Tensor
    classes: Tensor


class Decoded(NamedTuple):
    """The decoded N anchors of a batch, ordered by level (finest first), row, column, anchor.

    Attributes:
        boxes: (B, N, 4) XYXY in pixels of the network's input, not clipped.
        scores: (B, N) objectness times the probability of the best class.
        classes: (B, N) int64, the best class.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor


def decode(levels: Sequence[RawLevel], anchors: Tensor, strides: Sequence[int]) -> Decoded:
    """Decode the box, score and class of every anchor.

    Args:
        anchors: (L, A, 2) width and height in pixels of the network's input.
        strides: strides of the levels, in pixels.
    """
    parts = []
    for level, sizes, stride in zip(levels, anchors, strides, strict=True):
        logit, best = level.classes.max(dim=1)  # (B, H, W) each
        # The softmax of the best class alone: runtimes take far longer for the whole.
        probability = (level.classes - logit[:, None]).exp().sum(dim=1).reciprocal()
        scores = level.objectness.sigmoid() * probability[:, None]
        boxes = box_convert(dense_boxes(level, sizes, stride), "cxcywh", "xyxy")
        classes = best[:, None].expand_as(scores)
        parts.append((boxes.flatten(1, 3), _per_anchor(scores), _per_anchor(classes)))
    return Decoded(*(torch.cat(part, dim=1) for part in zip(*parts, strict=True)))


def dense_boxes(level: RawLevel, anchors: Tensor, stride: int) -> Tensor:
    """Decode boxes (B, H, W, A, 4), centre and size in pixels of the network's input.

    Args:
        anchors: (A, 2) width and height of the level's anchors, in pixels.
    """
    raw = level.box.unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2)  # (B, H, W, A, 4)
    rows, columns = (
        torch.arange(count, device=raw.device, dtype=torch.float32) for count in raw.shape[1:3]
    )
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return boxes_of(raw, torch.stack((x, y), dim=-1)[:, :, None], anchors, stride)


def boxes_of(raw: Tensor, cells: Tensor, anchors: Tensor, stride: int | Tensor) -> Tensor:
    """Decode raw outputs (..., 4) to boxes (..., 4), centre and size in pixels.

    Args:
        cells: (..., 2) column and row of the cell.
        anchors: (..., 2) width and height in pixels.
        stride: stride in pixels, one for all boxes or (..., 1).
    """
    centers, sizes = relative_boxes(raw.float())
    return torch.cat(((centers + cells) * stride, sizes * anchors), dim=-1)


def relative_boxes(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Decode raw outputs (..., 4) relative to cell and anchor.

    Returns:
        Centres (..., 2) from the cell's corner, in cells, and sizes (..., 2) in anchors.
    """
    offsets, sizes = (2 * raw.sigmoid()).split(2, dim=-1)
    return offsets - 0.5, sizes**2


def detect(
    levels: Sequence[RawLevel],
    anchors: Tensor,
    strides: Sequence[int],
    postprocess: PostProcess,
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return boxes (K, 4) XYXY in pixels, scores (K,) and classes (K,) per image, best first."""
    parts = [
        _promising(level, sizes, stride, postprocess.score_thresh)
        for level, sizes, stride in zip(levels, anchors, strides, strict=True)
    ]
    # All levels at once: on a CPU few boxes cost as much as many.
    image, objectness, logits, raw, cells, sizes, steps = map(torch.cat, zip(*parts, strict=True))
    probability, classes = logits.softmax(dim=1).max(dim=1)
    scores = objectness * probability
    good = (scores > postprocess.score_thresh).nonzero()[:, 0]
    boxes = boxes_of(raw[good], cells[good], sizes[good], steps[good])
    boxes = box_convert(boxes, "cxcywh", "xyxy")
    image, scores, classes = image[good], scores[good], classes[good]
    found = []
    for index in range(len(levels[0].box)):
        own = (image == index).nonzero()[:, 0]
        kept = own[suppress(boxes[own], scores[own], classes[own], postprocess.nms_thresh)]
        kept = kept[: postprocess.max_detections]
        found.append((boxes[kept], scores[kept], classes[kept]))
    return found


def suppress(boxes: Tensor, scores: Tensor, classes: Tensor, nms_thresh: float) -> Tensor:
    """Return the indices that NMS within each class keeps, best first."""
    # Classes are shifted apart by a constant, as in the published evaluation: the rounding of the
    # shifted boxes in float32 decides near the threshold.
    return nms(boxes + CLASS_SHIFT * classes[:, None], scores, nms_thresh)


def _promising(
    level: RawLevel, anchors: Tensor, stride: int, score_thresh: float
) -> tuple[Tensor, ...]:
    """Select the anchors whose objectness, an upper bound of the score, passes the threshold.

    Returns:
        Images (K,), objectness (K,), class logits (K, C), raw boxes (K, 4), cells (K, 2), anchors
        (K, 2) and strides (K, 1).
    """
    objectness = level.objectness.float().sigmoid()
    image, anchor, row, column = (objectness > score_thresh).nonzero(as_tuple=True)
    raw = level.box.unflatten(1, (-1, 4))[image, anchor, :, row, column]
    cells = torch.stack((column, row), dim=1)
    logits = level.classes[image, :, row, column].float()
    steps = anchors.new_full((len(image), 1), stride)
    return image, objectness[image, anchor, row, column], logits, raw, cells, anchors[anchor], steps


def _per_anchor(level: Tensor) -> Tensor:
    """Reshape (B, A, H, W) to (B, H * W * A)."""
    return level.permute(0, 2, 3, 1).flatten(1)
