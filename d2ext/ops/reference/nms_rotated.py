"""Non-maximum suppression of rotated boxes in plain PyTorch."""

import torch
from torch import Tensor

from d2ext.ops.reference.box_iou_rotated import box_iou_rotated, box_iou_rotated_at_once
from d2ext.ops.reference.floats import in_float


def nms_rotated(
    boxes: Tensor, scores: Tensor, groups: Tensor | None, iou_threshold: float
) -> Tensor:
    """Perform greedy NMS: keep the best box, drop what overlaps it, repeat with the rest."""
    boxes, rest = in_float(boxes), scores.argsort(descending=True, stable=True)
    kept = [rest[:0]]
    while len(rest):
        best, rest = rest[:1], rest[1:]
        kept.append(best)
        stays = box_iou_rotated(boxes[best], boxes[rest])[0] <= iou_threshold
        rest = rest[stays if groups is None else stays | (groups[rest] != groups[best])]
    return torch.cat(kept)


def nms_rotated_by_scan(
    boxes: Tensor, scores: Tensor, groups: Tensor | None, iou_threshold: float
) -> Tensor:
    """Perform `nms_rotated` by `scan` instead of a Python loop, for exporters.

    All N * N overlaps are in memory at once.
    """
    from torch._higher_order_ops.scan import scan  # private, so imported only where it is needed

    # Exporters do not know the stable sort; the one of ONNX is stable.
    order = scores.sort(descending=True).indices
    ranked = in_float(boxes)[order]
    overlap = box_iou_rotated_at_once(ranked, ranked) > iou_threshold
    if groups is not None:
        overlap = overlap & (groups[order, None] == groups[order])
    # The dtype is named for exports to ONNX by PyTorch 2.10, whose default there is a float.
    ranks = torch.arange(boxes.shape[0], dtype=torch.int64, device=boxes.device)

    def next_box(dropped: Tensor, item: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        drops, rank = item
        stays = ~dropped.gather(0, rank.view(1))
        return dropped | (drops & stays), stays.clone()

    nothing_dropped = order.new_zeros(order.shape, dtype=torch.bool)
    _, stays = scan(next_box, nothing_dropped, (overlap & (ranks[:, None] < ranks), ranks))
    return order[stays[:, 0]]
