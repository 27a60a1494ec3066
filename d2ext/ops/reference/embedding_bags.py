"""Bilinear sampling as sums of embedding bags.

A pixel's channels are a row of a table. A sample, or a sum of samples, is a weighted sum of rows: a
bag of embeddings, which PyTorch sums without a temporary of the size of all rows.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_MODE_SUM = 0  # ATen's number of mode="sum"


class Corners(NamedTuple):
    """The four pixels around each position; those outside the image have a weight of zero.

    Attributes:
        pixel: (..., 4) row-major numbers of pixels.
        weight: (..., 4) share of each pixel in the interpolated value.
        slopes: (..., 4, 2) derivatives of the weight with respect to y and x.
    """

    pixel: Tensor
    weight: Tensor
    slopes: Tensor


def bilinear_corners(positions: Tensor, height: int, width: int) -> Corners:
    """Return the four neighbours of each of (..., 2) positions, y and x in pixels of one map."""
    steps = positions.new_tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    corners = positions.floor().unsqueeze(-2) + steps  # (..., 4, 2)
    shares = 1 - (positions.unsqueeze(-2) - corners).abs()  # per coordinate; weights are products
    limits = positions.new_tensor([height, width])
    inside = ((corners >= 0) & (corners < limits)).all(-1)
    # A corner outside reads the nearest pixel inside with weight 0. Any fixed pixel would do, were
    # it not for infinities: zero times one is NaN, and would spoil samples far from that pixel.
    near = torch.minimum(corners.clamp(min=0), limits - 1).nan_to_num(0).long()
    # The weight is share_y * share_x: its slope by one of them is the other one's share, negative
    # for the near corners (step 0) and positive for the far ones (step 1).
    slopes = shares.flip(-1) * (2 * steps - 1)
    # Chosen, not multiplied by zero: the shares of a position that is not finite are NaN.
    weight = torch.where(inside, shares.prod(-1), 0)
    slopes = torch.where(inside.unsqueeze(-1), slopes, 0)
    return Corners(near[..., 0] * width + near[..., 1], weight, slopes)


def sum_bags(table: Tensor, bags: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum of each bag of rows.

    Args:
        table: (rows, channels) floats.
        bags: (bags, size) int64 numbers of rows.
        weights: as many as in `bags`, in any shape.
    Returns:
        (bags, channels).
    """
    return F.embedding_bag(bags, table, per_sample_weights=weights.reshape(bags.shape), mode="sum")


def sum_bags_backward(
    grad: Tensor, table: Tensor, bags: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients of table and weights, from the (bags, channels) gradient of the sums.

    Returns:
        (rows, channels) and (bags * size,).
    """
    # Not by autograd: where a dispatch mode watches (a counter of operations, a policy of gradient
    # checkpointing), it does not record what runs below an operator.
    size = bags.shape[1]
    rows, offsets = bags.flatten(), torch.arange(0, bags.numel(), size, device=bags.device)
    bag_of_row = torch.arange(len(bags), device=bags.device).repeat_interleave(size)
    grad_table = sum_bags_backward_table(grad, rows, bag_of_row, len(table), weights.flatten())
    grad_weights = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        grad, table, rows, offsets, bag_of_row, _MODE_SUM
    )
    return grad_table, grad_weights


def sum_bags_backward_table(
    grad: Tensor, rows: Tensor, bag_of_row: Tensor, count: int, weights: Tensor
) -> Tensor:
    """Return the (count, channels) gradient of the table, for bags of any sizes.

    Args:
        grad: (bags, channels) gradient of the sums.
        rows, bag_of_row, weights: (N,) for each row of each bag its number in the table, the number
            of its bag and its weight.
        count: rows of the table.
    """
    # Counts and sizes of bags serve other modes than "sum".
    unused = rows.new_empty(0)
    return torch.ops.aten._embedding_bag_dense_backward(
        grad, rows, bag_of_row, unused, unused, count, False, _MODE_SUM, weights
    )
