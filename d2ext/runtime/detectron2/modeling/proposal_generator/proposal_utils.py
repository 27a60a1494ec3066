"""Selection of a few proposals per image from the scored boxes of all levels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from detectron2.layers import batched_nms, cat
from detectron2.layers.wrappers import at_most
from detectron2.structures import Boxes, Instances

# Logit of the probability 1 - 1e-10, which stands for certainty without being infinite.
_CERTAIN_LOGIT = math.log((1.0 - 1e-10) / 1e-10)


def _is_tracing() -> bool:
    """Return True while a graph is traced; packages that select proposals themselves ask it."""
    return not torch.jit.is_scripting() and torch.jit.is_tracing()


def find_top_rpn_proposals(
    proposals: list[Tensor],
    pred_objectness_logits: list[Tensor],
    image_sizes: list[tuple[int, int]],
    nms_thresh: float,
    pre_nms_topk: int,
    post_nms_topk: int,
    min_box_size: float,
    training: bool,
) -> list[Instances]:
    """Select the best boxes of each image after NMS within each level.

    Args:
        proposals: (N, Ri, 4) XYXY per level.
        pred_objectness_logits: (N, Ri) per level.
        image_sizes: (height, width) of the N images.
        nms_thresh: IoU threshold of NMS.
        pre_nms_topk: number of boxes per level before NMS.
        post_nms_topk: number of boxes over all levels after NMS.
        min_box_size: minimum side (exclusive) in pixels, after clipping.
        training: raise an error for non-finite boxes or logits instead of dropping them.

    Returns:
        Per image `proposal_boxes` and `objectness_logits`, best first.

    Raises:
        FloatingPointError: a box or logit is not finite, in training.
    """
    boxes, logits, levels = best_of_levels(proposals, pred_objectness_logits, pre_nms_topk)
    results: list[Instances] = []
    for image, size in enumerate(image_sizes):
        finite = finite_rows(boxes[image], logits[image], training)
        found = Instances(size)
        found.proposal_boxes = Boxes(boxes[image][finite])
        found.objectness_logits = logits[image][finite]
        found.proposal_boxes.clip(size)
        large = found.proposal_boxes.nonempty(threshold=min_box_size)
        found = found[large]
        keep = batched_nms(
            found.proposal_boxes.tensor,
            found.objectness_logits,
            levels[finite][large],
            nms_thresh,
        )
        results.append(found[keep[:post_nms_topk]])
    return results


def finite_rows(boxes: Tensor, logits: Tensor, training: bool) -> Tensor:
    """Return (R,) bool: both the box (R, box_dim) and the logit (R,) are finite.

    Raises:
        FloatingPointError: some are not, in training.
    """
    finite = boxes.isfinite().all(dim=1) & logits.isfinite()
    if training and not finite.all():
        raise FloatingPointError(
            "the RPN predicted infinite boxes or logits: training has diverged"
        )
    return finite


def best_of_levels(
    boxes: list[Tensor], logits: list[Tensor], count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Select the `count` best per level: boxes (N, R, box_dim), logits (N, R), levels (R,)."""
    chosen_boxes, chosen_logits, levels = [], [], []
    for level, (level_boxes, level_logits) in enumerate(zip(boxes, logits, strict=True)):
        best_logits, best = level_logits.topk(at_most(count, level_logits.shape[1]), dim=1)
        rows = best[..., None].expand(-1, -1, level_boxes.shape[-1])
        chosen_boxes.append(level_boxes.gather(1, rows))
        chosen_logits.append(best_logits)
        # The level is the group of NMS: boxes of different levels do not suppress each other.
        levels.append(torch.full_like(best[0], level))
    return cat(chosen_boxes, dim=1), cat(chosen_logits, dim=1), cat(levels)


def add_ground_truth_to_proposals(
    gt: Sequence[Instances | Boxes], proposals: list[Instances]
) -> list[Instances]:
    """Append the ground truth to the proposals of each image, as good examples for training.

    Args:
        gt: per image, instances with `gt_boxes`, or these boxes alone.
        proposals: per image, with `proposal_boxes` and `objectness_logits`. Further fields must
            also be in `gt`.

    Raises:
        AssertionError: the numbers of images differ, or a field is missing.
    """
    if len(gt) != len(proposals):
        raise AssertionError(f"ground truth of {len(gt)} images, proposals of {len(proposals)}")
    if len(proposals) == 0:
        return proposals
    return [
        add_ground_truth_to_proposals_single_image(truth, found)
        for truth, found in zip(gt, proposals, strict=True)
    ]


def add_ground_truth_to_proposals_single_image(
    gt: Instances | Boxes, proposals: Instances
) -> Instances:
    """Append the ground truth to the proposals of one image."""
    truth = gt if isinstance(gt, Instances) else Instances(proposals.image_size, gt_boxes=gt)
    logits = proposals.objectness_logits
    appended = Instances(proposals.image_size)
    appended.proposal_boxes = truth.gt_boxes
    appended.objectness_logits = torch.full(
        (len(truth),), _CERTAIN_LOGIT, dtype=logits.dtype, device=logits.device
    )
    for name in proposals.get_fields():
        if not appended.has(name):
            if not truth.has(name):
                raise AssertionError(f"proposals have the field {name!r}, the ground truth has not")
            appended.set(name, truth.get(name))
    return Instances.cat([proposals, appended])
