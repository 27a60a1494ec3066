"""What heads on feature pyramids share."""

from math import log

import torch
from torch import Tensor, nn

from d2ext.layers import DeformConvPack
from d2ext.modeling.init import init_normal
from detectron2.layers import batched_nms, get_norm
from detectron2.structures import Boxes, Instances


def conv_tower(
    in_channels: int, channels: int, num_convs: int, norm: str, deformable: bool
) -> nn.Sequential:
    """3x3 convolutions, each with a norm of `detectron2.layers.get_norm` and a ReLU.

    Args:
        deformable: the last convolution is a deformable one.
    """
    layers: list[nn.Module] = []
    for i in range(num_convs):
        width = channels if i else in_channels
        if deformable and i == num_convs - 1:
            layers.append(DeformConvPack(width, channels))
        else:
            layers.append(init_normal(nn.Conv2d(width, channels, 3, padding=1)))
        layers += [layer for layer in (get_norm(norm, channels), nn.ReLU()) if layer is not None]
    return nn.Sequential(*layers)


def best_detections(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    image_size: tuple[int, int],
    nms_thresh: float,
    max_detections: int,
) -> Instances:
    """NMS within each class, then the best ones, clipped to the image and not empty.

    Args:
        boxes: (N, 4) XYXY in pixels.
        scores: (N,).
        classes: (N,) int64.
        image_size: height and width in pixels.
    """
    keep = batched_nms(boxes, scores, classes, nms_thresh)[:max_detections]
    result = Instances(image_size)
    result.pred_boxes = Boxes(boxes[keep])
    result.scores, result.pred_classes = scores[keep], classes[keep]
    result.pred_boxes.clip(image_size)
    return result[result.pred_boxes.nonempty()]


def flatten_cells(level: Tensor, per_anchor: int) -> Tensor:
    """(B, A * per_anchor, H, W) -> (B, H * W * A, per_anchor), in the order of the anchors."""
    level = level.unflatten(1, (-1, per_anchor))  # (B, A, per_anchor, H, W)
    return level.permute(0, 3, 4, 1, 2).flatten(1, 3)


def cell_centers(level: Tensor, stride: int) -> Tensor:
    """(H * W, 2) XY pixels of the image that the cells of (B, C, H, W) features stand for."""
    height, width = level.shape[-2:]
    y, x = (
        torch.arange(count, device=level.device, dtype=torch.float32) * stride + stride // 2
        for count in (height, width)
    )
    return torch.cartesian_prod(y, x).flip(1)


def prior_bias(probability: float) -> float:
    """The logit that starts a classifier at `probability` (arXiv:1708.02002, section 4.1)."""
    return -log((1 - probability) / probability)
