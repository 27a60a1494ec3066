"""Keypoints, and their encoding as heat maps.

Source of the encoding: He et al., "Mask R-CNN", 2017, arXiv:1703.06870. A continuous coordinate c
and a discrete d relate by d = floor(c) and c = d + 0.5.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate


class Keypoints:
    """The annotated keypoints of the objects of one image.

    Args:
        keypoints: (N, K, 3): x and y in pixels, and COCO's visibility: 0 not labelled, 1 labelled
            but hidden, 2 visible. Cast to float32.

    Attributes:
        tensor: (N, K, 3) float32.
    """

    def __init__(self, keypoints: Tensor | np.ndarray | Sequence) -> None:
        if isinstance(keypoints, list):
            keypoints = np.asarray(keypoints)  # PyTorch copies lists of arrays number by number
        self.tensor = torch.as_tensor(keypoints).to(torch.float32)
        if self.tensor.ndim != 3 or self.tensor.shape[2] != 3:
            raise ValueError(f"Keypoints are (N, K, 3), got {tuple(self.tensor.shape)}.")

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def to(self, *args: Any, **kwargs: Any) -> "Keypoints":
        """Move the keypoints to another device; arguments are those of `Tensor.to`."""
        return Keypoints(self.tensor.to(*args, **kwargs))

    @property
    def device(self) -> torch.device:
        """Device of the tensor."""
        return self.tensor.device

    def to_heatmap(self, boxes: Tensor, heatmap_size: int) -> tuple[Tensor, Tensor]:
        """Encode each keypoint as the index of its cell in a square grid over its box.

        Args:
            boxes: (N, 4) XYXY.
            heatmap_size: cells per side.

        Returns:
            (N, K) int64 cells in row-major order, and (N, K) int64: 1 for labelled keypoints inside
            the box, 0 for the others, whose cell is 0.
        """
        if self.tensor.numel() == 0:
            empty = self.tensor.new_zeros(0, dtype=torch.int64)
            return empty, empty
        start, end = boxes[:, None, :2], boxes[:, None, 2:]
        points = self.tensor[..., :2]
        cells = ((points - start) * (heatmap_size / (end - start))).floor().long()
        # Points on the far border belong to the last cell.
        cells = torch.where(points == end, heatmap_size - 1, cells)
        inside = ((cells >= 0) & (cells < heatmap_size)).all(dim=-1)
        valid = (inside & (self.tensor[..., 2] > 0)).long()
        return (cells[..., 1] * heatmap_size + cells[..., 0]) * valid, valid

    def __getitem__(self, item: Any) -> "Keypoints":
        """Return those at an index, a slice, or a vector of indices or bools; may share memory."""
        chosen = self.tensor[item]
        return Keypoints(chosen[None] if isinstance(item, int) else chosen)

    def __repr__(self) -> str:
        return f"Keypoints(num_instances={len(self)})"

    @staticmethod
    def cat(keypoints_list: Sequence["Keypoints"]) -> "Keypoints":
        """Concatenate keypoints of a non-empty list."""
        return Keypoints(torch.cat([keypoints.tensor for keypoints in keypoints_list]))


@torch.jit.script_if_tracing  # a trace would fix the number of boxes and their sizes
def heatmaps_to_keypoints(maps: Tensor, rois: Tensor) -> Tensor:
    """Decode keypoints at the maxima of predicted heat maps.

    Args:
        maps: (N, K, H, W) logits.
        rois: (N, 4) XYXY boxes that the maps cover.

    Returns:
        (N, K, 4): x and y in pixels, the logit, and the score. Maps are first resized to their box;
        a score is a softmax over the map before resizing, which is comparable between boxes.
    """
    keypoints = [maps.new_zeros([0, maps.shape[1], 4])]
    for logits, roi in zip(maps.unbind(0), rois.unbind(0), strict=True):
        keypoints.append(_peaks(logits, roi)[None])
    return torch.cat(keypoints)


def _peaks(logits: Tensor, roi: Tensor) -> Tensor:
    size = (roi[2:] - roi[:2]).clamp(min=1)  # width and height
    width, height = int(size[0].ceil()), int(size[1].ceil())
    # Bicubic, as in Detectron1: maxima lie between the cells of the heat map.
    resized = interpolate(logits[None], [height, width], mode="bicubic", align_corners=False)[0]
    peak, position = resized.flatten(1).max(dim=1)
    cell = torch.stack((position % width, position // width), dim=1)
    # The map was resized to whole pixels; scale back to the exact size of the box.
    points = (cell + 0.5) * (size / size.ceil()) + roi[:2]
    score = 1 / (logits - peak[:, None, None]).exp().sum(dim=(1, 2))
    return torch.cat((points.to(peak), peak[:, None], score[:, None]), dim=1)
