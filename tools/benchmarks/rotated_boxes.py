"""Overlap and suppression of rotated boxes beside Detectron2's compiled operators.

The peer is an official Detectron2; where it was built in a checkout, PYTHONPATH may name that.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.measure import Problem
from d2ext._detectron2 import provider
from d2ext.ops import box_iou_rotated, matched_iou_rotated, nms_rotated, reference

IMAGE, SIDES = (1333.0, 800.0), (8.0, 128.0)  # width and height; least and most of a box, in pixels
BOXES, OTHERS, PAIRS = 5000, 500, 20000


def iou_problems(device: torch.device, dtype: torch.dtype) -> Iterator[Problem]:
    """Anchors with objects, then pairs with their gradients, which Detectron2 has not."""
    yield Problem(
        title=f"box_iou_rotated, {BOXES}x{OTHERS}",
        inputs=[boxes(BOXES, 0).to(device, dtype), boxes(OTHERS, 1).to(device, dtype)],
        ways={"d2ext": box_iou_rotated, "detectron2": _detectron2s_iou},
        peer="detectron2",
        goals=(10, None),
    )
    pairs = boxes(PAIRS, 0), boxes(PAIRS, 0) + torch.rand(PAIRS, 5)
    yield Problem(
        title=f"matched_iou_rotated, {PAIRS} pairs",
        inputs=[some.to(device, dtype).requires_grad_() for some in pairs],
        ways={"d2ext": matched_iou_rotated, "differentiated": reference.matched_iou_rotated},
        peer="differentiated",
    )


def nms_problems(device: torch.device, dtype: torch.dtype) -> Iterator[Problem]:
    """Boxes of one class, at a threshold that keeps most and one that keeps few."""
    scores = torch.rand(BOXES, generator=torch.Generator().manual_seed(2)).to(device)
    for threshold, goal in ((0.5, 20), (0.05, None)):
        yield Problem(
            title=f"nms_rotated, {BOXES} boxes, threshold {threshold}",
            inputs=[boxes(BOXES, 0).to(device, dtype), scores, threshold],
            ways={"d2ext": nms_rotated, "detectron2": _detectron2s_nms},
            peer="detectron2",
            goals=(goal, None),
        )


def boxes(count: int, seed: int) -> Tensor:
    """(N, 5) XYWHA all over an image, at any angle."""
    generator = torch.Generator().manual_seed(seed)
    extent = SIDES[1] - SIDES[0]
    scale = torch.tensor([*IMAGE, extent, extent, 360])
    start = torch.tensor([0, 0, SIDES[0], SIDES[0], -180])
    return torch.rand(count, 5, generator=generator) * scale + start


def _detectron2s_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    _need_official()
    return torch.ops.detectron2.box_iou_rotated(boxes1.float(), boxes2.float())


def _detectron2s_nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    _need_official()
    return torch.ops.detectron2.nms_rotated(boxes.float(), scores, threshold)


def _need_official() -> None:
    """Register the peer's operators.

    Raises:
        ImportError: there is no official detectron2; the bundled one runs d2ext's operators.
    """
    if provider() != "official":
        raise ImportError("no official detectron2 is installed, nor named by PYTHONPATH")
    import detectron2.layers  # noqa: F401  (registers them)
