"""Pasting of masks predicted inside boxes into the whole image."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

__all__ = ["paste_masks_in_image"]

BYTES_PER_FLOAT = 4
GPU_MEM_LIMIT = 1 << 30  # bytes of the masks that are pasted together on a GPU


def paste_masks_in_image(
    masks: Tensor, boxes: Tensor, image_shape: tuple[int, int], threshold: float = 0.5
) -> Tensor:
    """Paste each mask into its box on an empty image, by bilinear resampling.

    TorchScript can compile this function, and does so while it is traced.

    Args:
        masks: (N, M, M) probabilities.
        boxes: N boxes in pixels of the image, `Boxes` or (N, 4) XYXY.
        image_shape: (height, width); while tracing these may be tensors.
        threshold: minimum probability of a mask pixel; below 0: keep the probabilities.

    Returns:
        (N, height, width): bool, or uint8 in 0..255 if `threshold` is below 0.
    """
    if not isinstance(boxes, Tensor):
        boxes = boxes.tensor
    if isinstance(image_shape[0], Tensor):
        return _paste_masks_tensor_shape(masks, boxes, image_shape, threshold)
    if masks.dim() != 3 or masks.shape[1] != masks.shape[2]:
        raise ValueError(f"masks must be (N, M, M), got {masks.shape}")
    if boxes.shape[0] != masks.shape[0]:
        raise ValueError(f"{masks.shape[0]} masks, but {boxes.shape[0]} boxes")
    dtype = torch.bool if threshold >= 0 else torch.uint8
    height, width = image_shape
    image = torch.zeros([masks.shape[0], height, width], dtype=dtype, device=masks.device)
    step, windows = _parts(boxes, height, width)
    for index, (x0, y0, x1, y1) in enumerate(windows):
        start, end = index * step, (index + 1) * step
        probability = _sample(
            masks[start:end, None].float(), boxes[start:end].float(), (x0, y0, x1, y1)
        )
        binary = probability >= threshold if threshold >= 0 else (probability * 255).to(dtype)
        image[start:end, y0:y1, x0:x1] = binary
    return image


@torch.jit.script_if_tracing
def _paste_masks_tensor_shape(
    masks: Tensor, boxes: Tensor, image_shape: tuple[Tensor, Tensor], threshold: float = 0.5
) -> Tensor:
    # Compiled rather than traced: the loop and the image size depend on the input.
    size = int(image_shape[0]), int(image_shape[1])
    return paste_masks_in_image(masks, boxes, size, threshold)


def _do_paste_mask(
    masks: Tensor, boxes: Tensor, img_h: int, img_w: int, skip_empty: bool = True
) -> tuple[Tensor, tuple[slice, ...]]:
    """Paste probabilities, for packages that do not want them compared with a threshold.

    Args:
        masks: (N, 1, M, M).
        boxes: (N, 4) XYXY in pixels of the image.
        img_h, img_w: size of the image.
        skip_empty: paste only into the window that encloses the boxes.

    Returns:
        (N, h, w), and rows and columns of the window; () if that is the whole image.
    """
    if not skip_empty:
        return _sample(masks, boxes, (0, 0, img_w, img_h)), ()
    x0, y0 = (boxes[:, :2].amin(dim=0).floor() - 1).clamp(min=0).long().tolist()
    x1, y1 = (boxes[:, 2:].amax(dim=0).ceil() + 1).long().tolist()
    x1, y1 = min(x1, img_w), min(y1, img_h)
    return _sample(masks, boxes, (x0, y0, x1, y1)), (slice(y0, y1), slice(x0, x1))


def _parts(
    boxes: Tensor, height: int, width: int, most_pixels: int = GPU_MEM_LIMIT // BYTES_PER_FLOAT
) -> tuple[int, list[tuple[int, int, int, int]]]:
    """Yield chunks: how many masks are pasted together, and their window (x0, y0, x1, y1)."""
    count = boxes.shape[0]
    if boxes.device.type != "cpu":
        step = max(most_pixels // max(height * width, 1), 1)
        return step, [(0, 0, width, height) for _ in range(0, count, step)]
    # On the CPU one by one, each only inside its box: that needs the least arithmetic.
    # One more pixel on each side, where bilinear sampling still reaches into the mask.
    low = (boxes[:, :2].floor() - 1).clamp(min=0)
    rows: list[list[int]] = torch.cat([low, boxes[:, 2:].ceil() + 1], dim=1).long().tolist()
    windows = [(x0, y0, min(x1, width), min(y1, height)) for x0, y0, x1, y1 in rows]
    return 1, [(x0, y0, max(x1, x0), max(y1, y0)) for x0, y0, x1, y1 in windows]


def _sample(masks: Tensor, corners: Tensor, window: tuple[int, int, int, int]) -> Tensor:
    """Sample probabilities at the pixel centres of `window`: (n, 1, M, M) -> (n, h, w)."""
    left, top, right, bottom = window
    x0, y0, x1, y1 = corners[:, :, None].unbind(1)
    columns = torch.arange(left, right, device=masks.device) + 0.5
    rows = torch.arange(top, bottom, device=masks.device) + 0.5
    x = (columns - x0) / (x1 - x0) * 2 - 1
    y = (rows - y0) / (y1 - y0) * 2 - 1
    shape = [masks.shape[0], rows.shape[0], columns.shape[0]]
    grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], dim=-1)
    # A box without area gives infinities; 2.0 is outside of the mask, too, and reads zeros.
    return F.grid_sample(masks, grid.nan_to_num(2.0, 2.0, 2.0), align_corners=False)[:, 0]


def pad_masks(masks: Tensor, padding: int) -> tuple[Tensor, float]:
    """Pad masks with a border of zeros.

    Args:
        masks: (B, M, M).
        padding: width of the border.

    Returns:
        (B, M + 2 padding, M + 2 padding) of the same dtype, and the scale factor of the side.
    """
    size = masks.shape[-1]
    return F.pad(masks, (padding,) * 4), (size + 2 * padding) / size


def scale_boxes(boxes: Tensor, scale: float) -> Tensor:
    """Scale boxes (B, 4) XYXY about their centres."""
    center = (boxes[:, 2:] + boxes[:, :2]) * 0.5
    half = (boxes[:, 2:] - boxes[:, :2]) * (0.5 * scale)
    return torch.cat([center - half, center + half], dim=1)


def paste_mask_in_image_old(
    mask: Tensor, box: Tensor, img_h: int, img_w: int, threshold: float
) -> Tensor:
    """Paste one mask as Detectron1 did, in boxes of whole pixels; for comparisons.

    Args:
        mask: (M, M) probabilities.
        box: (4,) XYXY.
        img_h, img_w: size of the result.
        threshold: minimum probability of a mask pixel; negative for probabilities in 0..255.

    Returns:
        (img_h, img_w) uint8.
    """
    # Detectron1 included the last pixel in a box, hence the + 1.
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
