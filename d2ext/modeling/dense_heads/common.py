"""What heads on feature pyramids share."""

from collections.abc import Iterable
from math import log

import torch
from torch import Tensor, nn

from d2ext.layers import DeformConvPack
from d2ext.modeling.init import init_normal
from detectron2.layers import batched_nms, get_norm
from detectron2.structures import Boxes, Instances

PER_LEVEL = ("BN", "SyncBN")  # norms of which every level has its own, for its own statistics


class ConvTower(nn.ModuleList):
    """Layers after each other that the levels of a pyramid share, but for lists of one a level."""

    def forward(self, feature: Tensor, level: int) -> Tensor:
        """(B, C, H, W) of the level of that index -> (B, channels, H, W)."""
        for layer in self:
            feature = (layer[level] if isinstance(layer, nn.ModuleList) else layer)(feature)
        return feature


def conv_tower(
    in_channels: int, channels: int, num_convs: int, norm: str, deformable: bool, num_levels: int
) -> ConvTower:
    """3x3 convolutions, each with a norm of `detectron2.layers.get_norm` and a ReLU.

    Args:
        deformable: the last convolution is a deformable one.
        num_levels: of the pyramid; those of `PER_LEVEL` are made so often.
    """
    layers: list[nn.Module] = []
    for i in range(num_convs):
        width = channels if i else in_channels
        if deformable and i == num_convs - 1:
            layers.append(DeformConvPack(width, channels))
        else:
            layers.append(init_normal(nn.Conv2d(width, channels, 3, padding=1)))
        norms = [get_norm(norm, channels) for _ in range(num_levels if norm in PER_LEVEL else 1)]
        made = [layer for layer in norms if layer is not None]
        layers += [nn.ModuleList(made)] if norm in PER_LEVEL else made
        layers.append(nn.ReLU())
    return ConvTower(layers)


def best_detections(
    levels: Iterable[tuple[Tensor, Tensor, Tensor]],
    image_size: tuple[int, int],
    nms_thresh: float,
    max_detections: int,
) -> Instances:
    """NMS within each class, then the best ones, clipped to the image and not empty.

    Args:
        levels: of each, boxes (N, 4) XYXY in pixels, scores (N,) and classes (N,) int64.
        image_size: height and width in pixels.
    """
    boxes, scores, classes = (torch.cat(parts) for parts in zip(*levels, strict=True))
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
