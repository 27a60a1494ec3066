"""The ATSS assigner: adaptive training sample selection by the statistics of each box's IoUs.

Source: Zhang et al., "Bridging the Gap Between Anchor-based and Anchor-free Detection via Adaptive
Training Sample Selection", 2020, arXiv:1912.02424, algorithm 1.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from detectron2.structures import Boxes, pairwise_iou

INSIDE_MARGIN = 0.01  # pixels by which a positive anchor's centre lies within its box


def assign_atss(
    anchors: Sequence[Boxes], boxes: Boxes, images: Tensor, num_images: int, topk: int
) -> Tensor:
    """Assign anchors to the boxes of a whole batch at once.

    Args:
        anchors: per level, the same for all images; A in total.
        boxes: M boxes of all images, XYXY in pixels.
        images: (M,) int64, the index in the batch of each box's image.
        num_images: B.
        topk: candidates per box and level, by the distance of the centres.
    Returns:
        (B, A) int64: the assigned row of `boxes`, -1 for background. An anchor that several boxes
        claim goes to the one of highest IoU.
    """
    every = Boxes.cat(list(anchors))
    matched = torch.full((num_images, len(every)), -1, device=images.device)
    if len(boxes) == 0:
        return matched
    candidates = _nearest(anchors, boxes, topk)  # (K, M)
    iou = pairwise_iou(every, boxes).gather(0, candidates)
    # A single candidate has no deviation: its own IoU is then the threshold.
    threshold = iou.mean(0) + (iou.std(0) if len(iou) > 1 else 0.0)
    # The last condition of algorithm 1: an anchor centred outside the box is a poor candidate.
    positive = (iou >= threshold) & _inside(every, boxes, candidates)
    box = torch.arange(len(boxes), device=images.device).expand_as(candidates)[positive]
    place = images[box] * len(every) + candidates[positive]
    return _keep_highest_iou(matched, place, box, iou[positive])


def _nearest(anchors: Sequence[Boxes], boxes: Boxes, topk: int) -> Tensor:
    """Return (K, M) indices into all anchors: per box, the `topk` nearest of every level."""
    indices, first = [], 0
    for level in anchors:
        distance = torch.cdist(level.get_centers(), boxes.get_centers())
        nearest = distance.topk(min(topk, len(level)), dim=0, largest=False).indices
        indices.append(nearest + first)
        first += len(level)
    return torch.cat(indices)


def _inside(anchors: Boxes, boxes: Boxes, candidates: Tensor) -> Tensor:
    """Return (K, M) bool: the centre of the candidate lies within the box."""
    centers = anchors.get_centers()[candidates]  # (K, M, 2)
    inner = torch.cat((centers - boxes.tensor[:, :2], boxes.tensor[:, 2:] - centers), dim=-1)
    return inner.amin(-1) > INSIDE_MARGIN


def _keep_highest_iou(matched: Tensor, place: Tensor, box: Tensor, iou: Tensor) -> Tensor:
    """Write the box of highest IoU to each `place` of `matched`; the first of equal ones."""
    # Without a loop over boxes: the highest IoU per anchor, then the first box that reaches it.
    best = iou.new_zeros(matched.numel()).scatter_reduce(0, place, iou, "amax")
    wins = iou == best[place]
    nobody = torch.iinfo(box.dtype).max
    first = torch.full_like(matched.flatten(), nobody)
    first = first.scatter_reduce(0, place[wins], box[wins], "amin")
    return first.masked_fill(first == nobody, -1).view_as(matched)
