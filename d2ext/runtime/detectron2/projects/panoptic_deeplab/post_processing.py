"""Grouping of Panoptic-DeepLab: pixels go to the centre that their offset points to.

Source: Cheng et al., "Panoptic-DeepLab", 2020, arXiv:1911.10194, section 3.3.
"""

from collections import Counter
from collections.abc import Collection

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "find_instance_center",
    "get_instance_segmentation",
    "get_panoptic_segmentation",
    "group_pixels",
    "merge_semantic_and_instance",
]

CHUNK = 2**22  # distances between centres and pixels that are held at once


def find_instance_center(
    center_heatmap: Tensor, threshold: float = 0.1, nms_kernel: int = 3, top_k: int | None = None
) -> Tensor:
    """Find the maxima of a heatmap: (K, 2) integer y and x, in row-major order.

    Args:
        center_heatmap: (1, H, W).
        threshold: least score of a centre.
        nms_kernel: side of the square in which a centre is the highest; odd.
        top_k: at most as many, by score; None: all.
    """
    highest = F.max_pool2d(center_heatmap, nms_kernel, stride=1, padding=(nms_kernel - 1) // 2)
    is_center = (center_heatmap == highest) & (center_heatmap > threshold)
    scores = torch.where(is_center, center_heatmap, -1.0)[0]
    if top_k is not None:
        # The last of the best is the limit, and is left out itself, as published.
        least = scores.flatten().topk(min(top_k, scores.numel())).values[-1]
        return torch.nonzero(scores > least.clamp(min=0))
    return torch.nonzero(scores > 0)


def group_pixels(center_points: Tensor, offsets: Tensor) -> Tensor:
    """Return the number of the nearest centre, from 1, of each pixel: (1, H, W) int64.

    Args:
        center_points: (K, 2) y and x.
        offsets: (2, H, W) y and x from a pixel to its centre.
    """
    height, width = offsets.shape[1:]
    y = torch.arange(height, dtype=offsets.dtype, device=offsets.device)
    x = torch.arange(width, dtype=offsets.dtype, device=offsets.device)
    targets = torch.stack((offsets[0] + y[:, None], offsets[1] + x)).flatten(1).T  # (H * W, 2)
    centers = center_points.to(offsets.dtype)
    # In parts: all distances of an image are as large as hundreds of images.
    parts = targets.split(max(1, CHUNK // max(len(centers), 1)))
    nearest = [((part[:, None] - centers).square().sum(-1)).argmin(1) for part in parts]
    return torch.cat(nearest).view(1, height, width) + 1


def get_instance_segmentation(
    sem_seg: Tensor,
    center_heatmap: Tensor,
    offsets: Tensor,
    thing_seg: Tensor,
    thing_ids: Collection[int],
    threshold: float = 0.1,
    nms_kernel: int = 3,
    top_k: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the instance of each pixel of a thing, (1, H, W), 0 elsewhere; centres (1, K, 2).

    Args:
        sem_seg: (1, H, W) labels; only their shape and type are read.
        thing_seg: (1, H, W), 1 on things.
        thing_ids: not read.
        center_heatmap, offsets, threshold, nms_kernel, top_k: see `find_instance_center` and
            `group_pixels`.
    """
    centers = find_instance_center(center_heatmap, threshold, nms_kernel, top_k)
    if len(centers) == 0:
        return torch.zeros_like(sem_seg), centers[None]
    return thing_seg * group_pixels(centers, offsets), centers[None]


def merge_semantic_and_instance(
    sem_seg: Tensor,
    ins_seg: Tensor,
    semantic_thing_seg: Tensor,
    label_divisor: int,
    thing_ids: Collection[int],
    stuff_area: int,
    void_label: int,
) -> Tensor:
    """Return panoptic ids: category * label_divisor + number of the instance; 0 for stuff.

    Args:
        sem_seg: (1, H, W) labels.
        ins_seg: (1, H, W) instances, 0 for none. Most pixels of one decide on its category.
        semantic_thing_seg: (1, H, W), above 0 on things.
        label_divisor: more than the instances of a category.
        thing_ids: categories that are things.
        stuff_area: least number of pixels of a category of stuff.
        void_label: the id of all other pixels.
    """
    merged = torch.full_like(sem_seg, void_label)
    found: Counter[int] = Counter()
    things = torch.where(semantic_thing_seg > 0, ins_seg, 0)
    for instance in things[things > 0].unique():
        inside = things == instance
        category = int(sem_seg[inside].mode().values)
        found[category] += 1
        merged[inside] = category * label_divisor + found[category]
    for category in sem_seg.unique().tolist():
        inside = (sem_seg == category) & (ins_seg == 0)
        if category not in thing_ids and int(inside.sum()) >= stuff_area:
            merged[inside] = category * label_divisor
    return merged


def get_panoptic_segmentation(
    sem_seg: Tensor,
    center_heatmap: Tensor,
    offsets: Tensor,
    thing_ids: Collection[int],
    label_divisor: int,
    stuff_area: int,
    void_label: int,
    threshold: float = 0.1,
    nms_kernel: int = 7,
    top_k: int | None = 200,
    foreground_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return panoptic ids (1, H, W), see `merge_semantic_and_instance`, and centres (1, K, 2).

    Args:
        foreground_mask: (1, H, W), 1 on things; None: where `sem_seg` is a thing.

    Raises:
        ValueError: a map has another number of dimensions than three.
    """
    for name, given in (("sem_seg", sem_seg), ("center_heatmap", center_heatmap)):
        if given.dim() != 3 or len(given) != 1:
            raise ValueError(f"{name} must be (1, H, W), got {tuple(given.shape)}")
    if offsets.dim() != 3 or len(offsets) != 2:
        raise ValueError(f"offsets must be (2, H, W), got {tuple(offsets.shape)}")
    things = foreground_mask
    if things is None:
        things = torch.isin(sem_seg, sem_seg.new_tensor([*thing_ids])).to(sem_seg.dtype)
    instances, centers = get_instance_segmentation(
        sem_seg, center_heatmap, offsets, things, thing_ids, threshold, nms_kernel, top_k
    )
    merged = merge_semantic_and_instance(
        sem_seg, instances, things, label_divisor, thing_ids, stuff_area, void_label
    )
    return merged, centers
