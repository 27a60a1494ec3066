"""From candidates to detections in exported modules: top-k and NMS with outputs of fixed shape."""

import torch
import torchvision
from torch import Tensor

from d2ext.modeling.dense_heads import LevelPredictions

Selected = tuple[Tensor, Tensor, Tensor]  # boxes (B, N, 4), scores (B, N), classes (B, N)


def topk_candidates(levels: LevelPredictions, count: int) -> Selected:
    """Return the `count` best (box, class) pairs of each level, one level after the other.

    A level with fewer pairs is filled up with scores of 0.
    """
    parts = []
    for boxes, scores in zip(levels.boxes, levels.scores, strict=True):
        best, index = padded_topk(scores.flatten(1), count)
        cell, label = index // scores.shape[-1], index % scores.shape[-1]
        if boxes.ndim == 4:  # a box of each class
            parts.append((gather_boxes(boxes.flatten(1, 2), index), best, label))
        else:
            parts.append((gather_boxes(boxes, cell), best, label))
    boxes, scores, classes = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    return boxes, scores, classes


def padded_topk(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the `count` best of (B, S) scores and their indices; zeros where S is less."""
    # As many zeros as are wanted: a number that depends on the size would not be a constant.
    padded = torch.cat((scores, scores.new_zeros(scores.shape[0], count)), dim=1)
    best, index = padded.topk(count, dim=1)
    return best, index.clamp(max=scores.shape[1] - 1)


def clipped(boxes: Tensor, height: int, width: int) -> Tensor:
    """Clip (..., 4) XYXY boxes to an image of that size."""
    sides = [boxes[..., n].clamp(0, (width, height)[n % 2]) for n in range(4)]
    return torch.stack(sides, dim=-1)


def gather_boxes(boxes: Tensor, index: Tensor) -> Tensor:
    """Return the rows (B, K, 4) of boxes (B, A, 4) at indices (B, K)."""
    return boxes.gather(1, index.unsqueeze(-1).expand(-1, -1, 4))


def batched_nms_mask(
    boxes: Tensor, scores: Tensor, classes: Tensor, num_classes: int, nms_thresh: float
) -> Tensor:
    """Return a mask of the candidates that NMS within each image and class keeps.

    Args:
        boxes: (B, K, 4) XYXY, K at least 1.
        scores: (B, K); those of 0 are no candidates.
        classes: (B, K) int64 below `num_classes`.
        nms_thresh: IoU above which the lower-scoring of two boxes is dropped.
    Returns:
        (B, K) bool.
    """
    batch, count = scores.shape
    image = torch.arange(batch, device=scores.device)[:, None]
    index = (scores > 0).flatten().nonzero().squeeze(1)
    # One call for all: every image and class is shifted to a place of its own, far enough from the
    # others. In float64, since float32 would move boxes by hundredths of a pixel there.
    place = (image * num_classes + classes).flatten()[index]
    extent = 2 * boxes.double().abs().amax() + 1
    apart = boxes.double().flatten(0, 1)[index] + (place * extent).unsqueeze(-1)
    kept = torchvision.ops.nms(apart, scores.double().flatten()[index], nms_thresh)
    keep = torch.zeros_like(scores).flatten().index_fill(0, index[kept], 1.0)
    return keep.view(batch, count) > 0


# ONNX has an operator for batches and classes; under a name of its own, `batched_nms_mask` can be
# translated to it.
torch.library.custom_op("d2ext_export::batched_nms_mask", batched_nms_mask, mutates_args=())


@torch.library.register_fake("d2ext_export::batched_nms_mask")
def _fake(
    boxes: Tensor, scores: Tensor, classes: Tensor, num_classes: int, nms_thresh: float
) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


def nms_detections(
    levels: LevelPredictions,
    *,
    topk: int,
    nms_thresh: float,
    max_detections: int,
    for_onnx: bool,
) -> Selected:
    """Return the `max_detections` best candidates per image after NMS.

    Args:
        topk: candidates per level that enter NMS.
        for_onnx: use the operator that `d2ext.exporters.onnx_file` translates.
    Returns:
        Boxes, scores and classes; where there are fewer, scores are 0.
    """
    boxes, scores, classes = topk_candidates(levels, topk)
    nms = torch.ops.d2ext_export.batched_nms_mask if for_onnx else batched_nms_mask
    keep = nms(boxes, scores, classes, levels.scores[0].shape[-1], nms_thresh)
    scores, index = padded_topk(torch.where(keep, scores, 0.0), max_detections)
    return gather_boxes(boxes, index), scores, classes.gather(1, index)
