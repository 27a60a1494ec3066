"""CIoU: IoU minus penalties for the distance of the centres and for other proportions.

Source: Zheng et al., "Distance-IoU Loss: Faster and Better Learning for Bounding Box Regression",
2020, arXiv:1911.08287, section 3.3. torchvision's, which starts from corners, has no finite value
for boxes that are thinner than the rounding of their corners.
"""

from math import pi

import torch
from torch import Tensor

EPSILON = 1e-16  # keeps quotients of nothing finite
THINNEST = 1e-15  # least side whose proportions have a gradient in float32


def complete_iou(boxes: Tensor, targets: Tensor) -> Tensor:
    """Compute the CIoU (P,) of (P, 4) boxes and targets, centre and size in any unit."""
    sizes, wanted = boxes[:, 2:].clamp(min=THINNEST), targets[:, 2:]
    first, second = boxes[:, :2] - sizes / 2, targets[:, :2] - wanted / 2
    ends, others = first + sizes, second + wanted
    common = (torch.minimum(ends, others) - torch.maximum(first, second)).clamp(min=0).prod(dim=1)
    iou = common / (sizes.prod(dim=1) + wanted.prod(dim=1) - common + EPSILON)
    hull = torch.maximum(ends, others) - torch.minimum(first, second)
    apart = (boxes[:, :2] - targets[:, :2]).square().sum(dim=1)
    apart = apart / (hull.square().sum(dim=1) + EPSILON)
    shape = 4 / pi**2 * (_angle(wanted) - _angle(sizes)).square()
    with torch.no_grad():
        weight = shape / (1 - iou + shape + EPSILON)
    return iou - apart - weight * shape


def _angle(sizes: Tensor) -> Tensor:
    width, height = sizes.unbind(dim=1)
    return torch.atan(width / height)
