"""Pasting of masks into the image, as two products of matrices: no loop, no grid of samples."""

import torch
from torch import Tensor


def paste_masks(masks: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
    """Resize masks to their boxes bilinearly and threshold them at 1/2.

    Args:
        masks: (B, N, M, M) probabilities, which cover their boxes.
        boxes: (B, N, 4) XYXY in pixels.
    Returns:
        (B, N, height, width) bool, False outside of the boxes.
    """
    x0, y0, x1, y1 = boxes.unbind(-1)
    rows = _interpolation(y0, y1, height, masks.shape[-2])
    columns = _interpolation(x0, x1, width, masks.shape[-1])
    return rows @ masks @ columns.transpose(-1, -2) >= 0.5


def _interpolation(start: Tensor, end: Tensor, pixels: int, cells: int) -> Tensor:
    """Return the weights (B, N, pixels, cells) of linear interpolation along one axis.

    Args:
        start, end: (B, N) sides of the boxes in pixels.
    """
    center = torch.arange(pixels, device=start.device, dtype=start.dtype) + 0.5
    # Boxes that are no detections are empty.
    extent = (end - start).clamp(min=1e-6).unsqueeze(-1)
    place = (center - start.unsqueeze(-1)) / extent * cells - 0.5
    cell = torch.arange(cells, device=start.device, dtype=start.dtype)
    return (1 - (place.unsqueeze(-1) - cell).abs()).clamp(min=0)
