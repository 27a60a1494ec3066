"""The box code: the ten numbers that a query predicts for a box in space.

Source: Wang et al., "DETR3D", 2021, arXiv:2110.06922, section 3.4, and the authors' code order:
cx, cy, log w, log l, cz, log h, sin yaw, cos yaw, vx, vy.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

CODE_SIZE = 10
CENTRE = (0, 1, 4)  # cx, cy and cz in the code
CONVENTIONS = ("mmdet3d_0", "mmdet3d_1")


def encode_boxes(boxes: Tensor) -> Tensor:
    """Encode boxes; those without a size get infinite logarithms.

    Args:
        boxes: (..., 9) x, y, z of the gravity centre, w, l, h in metres, yaw in radians, vx, vy.
    Returns:
        (..., 10) in metres, logarithms of metres, and metres per second.
    """
    x, y, z, width, length, height, yaw, vx, vy = boxes.unbind(-1)
    code = (x, y, width.log(), length.log(), z, height.log(), yaw.sin(), yaw.cos(), vx, vy)
    return torch.stack(code, dim=-1)


def decode_boxes(code: Tensor) -> Tensor:
    """Decode (..., 10) codes to (..., 9) boxes, the inverse of `encode_boxes`; yaw in (-pi, pi]."""
    x, y, width, length, z, height, sine, cosine, vx, vy = code.unbind(-1)
    yaw = torch.atan2(sine, cosine)
    return torch.stack((x, y, z, width.exp(), length.exp(), height.exp(), yaw, vx, vy), dim=-1)


def switch_convention(boxes: Tensor) -> Tensor:
    """Convert (..., 7 or 9) boxes between the conventions of mmdetection3d before and since 1.0.

    Before 1.0 a box has w, l, h and yaw' = -yaw - pi / 2; since then l, w, h and yaw. The
    conversion is its own inverse.
    """
    centre, width, length, height, yaw = boxes[..., :3], *boxes[..., 3:7].unbind(-1)
    swapped = torch.stack((length, width, height, -yaw - torch.pi / 2), dim=-1)
    return torch.cat((centre, swapped, boxes[..., 7:]), dim=-1)


def denormalise(points: Tensor, point_range: Sequence[float]) -> Tensor:
    """Scale (..., 3) points from [0, 1] to metres.

    Args:
        point_range: least x, y, z, then greatest x, y, z, in metres.
    """
    bounds = points.new_tensor(point_range)
    return points * (bounds[3:] - bounds[:3]) + bounds[:3]
