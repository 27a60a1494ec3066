"""Non-maximum suppression of a whole batch, its output of a size known before."""

import torch
import torchvision
from torch import Tensor


def keep_best(
    boxes: Tensor, scores: Tensor, classes: Tensor, num_classes: int, nms_thresh: float
) -> Tensor:
    """Which candidates stay when those that overlap a better one of their class go.

    Args:
        boxes: (B, K, 4) XYXY, K at least 1.
        scores: (B, K); those of 0 are no candidates.
        classes: (B, K) int64 below `num_classes`.
        nms_thresh: IoU.
    Returns:
        (B, K) bool.
    """
    batch, count = scores.shape
    image = torch.arange(batch, device=scores.device)[:, None]
    index = (scores > 0).flatten().nonzero().squeeze(1)
    # Every image and class in a place of its own, far enough from the others: float64, since
    # float32 would move boxes by hundredths of a pixel there.
    place = (image * num_classes + classes).flatten()[index]
    extent = 2 * boxes.double().abs().amax() + 1
    apart = boxes.double().flatten(0, 1)[index] + (place * extent).unsqueeze(-1)
    kept = torchvision.ops.nms(apart, scores.double().flatten()[index], nms_thresh)
    keep = torch.zeros_like(scores).flatten().index_fill(0, index[kept], 1.0)
    return keep.view(batch, count) > 0


# ONNX has an operator for batches and classes; under a name of its own, `keep_best` can be
# translated to it.
torch.library.custom_op("d2ext_export::keep_best", keep_best, mutates_args=())


@torch.library.register_fake("d2ext_export::keep_best")
def _fake(
    boxes: Tensor, scores: Tensor, classes: Tensor, num_classes: int, nms_thresh: float
) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)
