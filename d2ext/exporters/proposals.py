"""The proposals of an RPN in exported modules: a fixed number per image."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from d2ext.exporters.selection import batched_nms_mask, clipped, gather_boxes, padded_topk
from d2ext.modeling.dense_heads import flatten_cells

# exp() of greater logits is beyond float32.
_MOST_LOGIT = 80.0


def select_proposals(
    rpn: Any, features: Sequence[Tensor], height: int, width: int, for_onnx: bool
) -> tuple[Tensor, Tensor]:
    """Return the best proposals after NMS within each level.

    Args:
        rpn: Detectron2's `RPN`, in evaluation mode.
        features: (B, C, h, w) of its levels.
        height, width: size of the images in pixels, to which boxes are clipped.
        for_onnx: use the operator that `d2ext.exporters.onnx_file` translates.
    Returns:
        Boxes (B, P, 4), best first, and the exponentials (B, P) of their logits; where there are
        fewer than P, the latter are 0.
    """
    boxes, scores, levels = _best_of_levels(rpn, features)
    boxes = clipped(boxes, height, width)
    large = (boxes[..., 2:] - boxes[..., :2] > rpn.min_box_size).all(-1)
    scores = torch.where(large, scores, 0.0)
    nms = torch.ops.d2ext_export.batched_nms_mask if for_onnx else batched_nms_mask
    keep = nms(boxes, scores, levels, len(features), rpn.nms_thresh)
    scores, index = padded_topk(torch.where(keep, scores, 0.0), rpn.post_nms_topk[False])
    return gather_boxes(boxes, index), scores


def _best_of_levels(rpn: Any, features: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Return boxes (B, K, 4), scores (B, K) and levels (B, K) of the best anchors per level."""
    logits, deltas = rpn.rpn_head(list(features))
    anchors = rpn.anchor_generator(list(features))
    parts = []
    for number, (level, own, boxes) in enumerate(zip(logits, deltas, anchors, strict=True)):
        # Positive and in the order of the logits: a sigmoid would make equals of the surest.
        score = flatten_cells(level, 1).squeeze(-1).clamp(-_MOST_LOGIT, _MOST_LOGIT).exp()
        best, index = padded_topk(score, rpn.pre_nms_topk[False])
        chosen = gather_boxes(flatten_cells(own, 4), index)
        decoded = rpn.box2box_transform.apply_deltas(
            chosen.flatten(0, 1), boxes.tensor[index.flatten()]
        )
        parts.append((decoded.view(chosen.shape), best, torch.full_like(index, number)))
    boxes, scores, levels = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    return boxes, scores, levels
