"""From masks predicted inside boxes to masks of the whole image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:  # structures imports layers
    from detectron2.structures import Boxes

__all__ = ["paste_masks_in_image"]

_CHUNK_BYTES = 1 << 30  # of sampled float masks held at a time on a GPU


def paste_masks_in_image(
    masks: Tensor, boxes: Boxes | Tensor, image_shape: tuple[int, int], threshold: float = 0.5
) -> Tensor:
    """Resample each mask into its box on an empty image.

    Args:
        masks: (N, M, M) probabilities.
        boxes: N boxes in pixels of the image, `Boxes` or (N, 4) XYXY.
        image_shape: (height, width).
        threshold: from this probability on a pixel belongs to the mask; below 0: keep the
            probabilities.

    Returns:
        (N, height, width): bool, or uint8 in 0..255 where `threshold` is below 0.
    """
    if masks.dim() != 3 or masks.shape[1] != masks.shape[2]:
        raise ValueError(f"masks must be (N, M, M), got {tuple(masks.shape)}")
    corners = boxes if isinstance(boxes, Tensor) else boxes.tensor
    if len(corners) != len(masks):
        raise ValueError(f"{len(masks)} masks, but {len(corners)} boxes")
    height, width = image_shape
    dtype = torch.bool if threshold >= 0 else torch.uint8
    image = torch.zeros(len(masks), height, width, dtype=dtype, device=masks.device)
    for part, window in _parts(corners, height, width):
        probability = _sample(masks[part, None].float(), corners[part].float(), window)
        binary = probability >= threshold if threshold >= 0 else (probability * 255).to(dtype)
        x0, y0, x1, y1 = window
        image[part, y0:y1, x0:x1] = binary
    return image


def _parts(corners: Tensor, height: int, width: int) -> list:
    """What is pasted together: (slice of masks, window (x0, y0, x1, y1) of the image)."""
    if corners.device.type == "cpu":  # one by one, each only where its box is
        low = (corners[:, :2].floor() - 1).clamp(min=0).int().tolist()
        high = (corners[:, 2:].ceil() + 1).int().tolist()
        ends = [(min(x, width), min(y, height)) for x, y in high]
        return [
            (slice(i, i + 1), (x0, y0, max(x1, x0), max(y1, y0)))
            for i, ((x0, y0), (x1, y1)) in enumerate(zip(low, ends, strict=True))
        ]
    step = max(_CHUNK_BYTES // max(4 * height * width, 1), 1)
    whole = (0, 0, width, height)
    return [(slice(i, i + step), whole) for i in range(0, len(corners), step)]


def _sample(masks: Tensor, corners: Tensor, window: tuple[int, int, int, int]) -> Tensor:
    """Bilinear probabilities at the pixel centres of `window`: (n, 1, M, M) -> (n, h, w)."""
    left, top, right, bottom = window
    x0, y0, x1, y1 = corners[:, :, None].unbind(1)
    columns = torch.arange(left, right, device=masks.device) + 0.5
    rows = torch.arange(top, bottom, device=masks.device) + 0.5
    x = (columns - x0) / (x1 - x0) * 2 - 1
    y = (rows - y0) / (y1 - y0) * 2 - 1
    shape = (len(masks), rows.numel(), columns.numel())
    grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], dim=-1)
    # A box without area gives infinities, which would read outside the mask.
    return F.grid_sample(masks, grid.nan_to_num(2, 2, 2), align_corners=False)[:, 0]


def pad_masks(masks: Tensor, padding: int) -> tuple[Tensor, float]:
    """Put a border of zeros around masks.

    Args:
        masks: (B, M, M).
        padding: width of the border.

    Returns:
        (B, M + 2 padding, M + 2 padding) of the same dtype, and how many times larger they are.
    """
    size = masks.shape[-1]
    return F.pad(masks, (padding,) * 4), (size + 2 * padding) / size


def scale_boxes(boxes: Tensor, scale: float) -> Tensor:
    """Boxes (B, 4) XYXY, enlarged about their centres."""
    center = (boxes[:, 2:] + boxes[:, :2]) * 0.5
    half = (boxes[:, 2:] - boxes[:, :2]) * (0.5 * scale)
    return torch.cat([center - half, center + half], dim=1)


def paste_mask_in_image_old(
    mask: Tensor, box: Tensor, img_h: int, img_w: int, threshold: float
) -> Tensor:
    """One mask pasted as the first Detectron did, in boxes of whole pixels; for comparisons.

    Args:
        mask: (M, M) probabilities.
        box: (4,) XYXY.
        img_h, img_w: of the result.
        threshold: from which a pixel belongs to the mask; negative for probabilities in 0..255.

    Returns:
        (img_h, img_w) uint8.
    """
    x0, y0, x1, y1 = box.to(torch.int32).tolist()
    size = (max(x1 - x0 + 1, 1), max(y1 - y0 + 1, 1))
    small = Image.fromarray(mask.float().cpu().numpy())
    pasted = torch.from_numpy(np.array(small.resize(size, resample=Image.Resampling.BILINEAR)))
    pasted = pasted > threshold if threshold >= 0 else pasted * 255
    top, left = max(y0, 0), max(x0, 0)
    bottom, right = min(y1 + 1, img_h), min(x1 + 1, img_w)
    image = torch.zeros(img_h, img_w, dtype=torch.uint8)
    image[top:bottom, left:right] = pasted[top - y0 : bottom - y0, left - x0 : right - x0]
    return image
