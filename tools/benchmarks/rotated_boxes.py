"""IoU and NMS of rotated boxes compared with Detectron2's compiled operators.

The peer is an official Detectron2, installed or built in a checkout that PYTHONPATH names.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.measure import Problem
from benchmarks.problems import register_problems
from d2ext._detectron2 import provider
from d2ext.ops import box_iou_rotated, matched_iou_rotated, nms_rotated, reference

IMAGE = (1333.0, 800.0)  # width and height, in pixels
SIDES = (8.0, 128.0)  # shortest and longest side of a box, in pixels
BOXES, OTHERS, PAIRS = 5000, 500, 20000


def iou_problems(device: torch.device, dtype: torch.dtype) -> Iterator[Problem]:
    """Yield anchors against objects, then matched pairs with gradients, which Detectron2 lacks."""
    yield Problem(
        title=f"box_iou_rotated, {BOXES}x{OTHERS}",
        inputs=[boxes(BOXES, 0).to(device, dtype), boxes(OTHERS, 1).to(device, dtype)],
        ways={"d2ext": box_iou_rotated, "detectron2": _detectron2_iou},
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
    """Yield NMS of boxes of one class, at a threshold that keeps most and one that keeps few."""
    scores = torch.rand(BOXES, generator=torch.Generator().manual_seed(2)).to(device)
    for threshold, goal in ((0.5, 20), (0.05, None)):
        yield Problem(
            title=f"nms_rotated, {BOXES} boxes, threshold {threshold}",
            inputs=[boxes(BOXES, 0).to(device, dtype), scores, threshold],
            ways={"d2ext": nms_rotated, "detectron2": _detectron2_nms},
            peer="detectron2",
            goals=(goal, None),
        )


def boxes(count: int, seed: int) -> Tensor:
    """Return (N, 5) XYWHA boxes, uniform over an image, sizes and angles."""
    generator = torch.Generator().manual_seed(seed)
    extent = SIDES[1] - SIDES[0]
    scale = torch.tensor([*IMAGE, extent, extent, 360])
    start = torch.tensor([0, 0, SIDES[0], SIDES[0], -180])
    return torch.rand(count, 5, generator=generator) * scale + start


def _detectron2_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    _need_official()
    return torch.ops.detectron2.box_iou_rotated(boxes1.float(), boxes2.float())


def _detectron2_nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    _need_official()
    return torch.ops.detectron2.nms_rotated(boxes.float(), scores, threshold)


def _need_official() -> None:
    """Import the official detectron2, which registers the peer's operators.

    Raises:
        ImportError: there is none. Under the same names the bundled one calls d2ext's operators.
    """
    if provider() != "official":
        raise ImportError("no official detectron2 is installed, nor named by PYTHONPATH")
    import detectron2.layers  # noqa: F401  (registers them)


register_problems("ops", "box_iou_rotated", iou_problems)
register_problems("ops", "nms_rotated", nms_problems)
