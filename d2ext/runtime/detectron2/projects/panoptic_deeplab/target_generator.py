"""Training targets of Panoptic-DeepLab: labels, a heatmap of centres, offsets to the centres.

Source: Cheng et al., "Panoptic-DeepLab", 2020, arXiv:1911.10194, section 3.2.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["PanopticDeepLabTargetGenerator"]


class PanopticDeepLabTargetGenerator:
    """Makes the targets of an image from its panoptic annotation.

    Args:
        ignore_label: semantic label of pixels without a segment.
        thing_ids: categories that are things.
        sigma: standard deviation of a centre in the heatmap, in pixels.
        ignore_stuff_in_offset: no offsets are learned on stuff.
        small_instance_area: things below this number of pixels are small.
        small_instance_weight: weight of small things in the semantic loss; that of others is 1.
        ignore_crowd_in_semantic: crowd segments have the label `ignore_label`.
    """

    def __init__(
        self,
        ignore_label: int,
        thing_ids: Iterable[int],
        sigma: int = 8,
        ignore_stuff_in_offset: bool = False,
        small_instance_area: int = 0,
        small_instance_weight: int = 1,
        ignore_crowd_in_semantic: bool = False,
    ) -> None:
        self.ignore_label, self.thing_ids, self.sigma = ignore_label, set(thing_ids), sigma
        self.ignore_stuff_in_offset = ignore_stuff_in_offset
        self.small_instance_area = small_instance_area
        self.small_instance_weight = small_instance_weight
        self.ignore_crowd_in_semantic = ignore_crowd_in_semantic

    def __call__(
        self, panoptic: NDArray[np.integer], segments_info: Sequence[dict[str, Any]]
    ) -> dict[str, Any]:
        """Return the targets of an image.

        Args:
            panoptic: (H, W) segment ids.
            segments_info: "id", "category_id" and "iscrowd" of each segment.

        Returns:
            "sem_seg" (H, W) int64; "center" (H, W), 1 at a centre; "center_points", a list of
            (y, x); "offset" (2, H, W), y then x, in pixels; and the weights of the losses per
            pixel: "sem_seg_weights" (H, W), "center_weights" and "offset_weights" (1, H, W).
        """
        shape = panoptic.shape
        labels = np.full(shape, self.ignore_label, np.int64)
        center, offset = np.zeros(shape, np.float32), np.zeros((2, *shape), np.float32)
        weights = {key: np.zeros((1, *shape), np.float32) for key in ("center", "offset")}
        semantic, points = np.ones(shape, np.float32), []
        for segment in segments_info:
            category, crowd = segment["category_id"], segment["iscrowd"]
            inside, is_thing = panoptic == segment["id"], category in self.thing_ids
            if not (crowd and self.ignore_crowd_in_semantic):
                labels[inside] = category
            if not crowd:
                weights["center"][0, inside] = 1
                if is_thing or not self.ignore_stuff_in_offset:
                    weights["offset"][0, inside] = 1
            if is_thing and inside.any():  # a crop may have left nothing of it
                if inside.sum() < self.small_instance_area:
                    semantic[inside] = self.small_instance_weight
                points.append(self._add_instance(inside, center, offset))
        arrays = {"sem_seg": labels, "center": center, "offset": offset}
        arrays |= {f"{key}_weights": value for key, value in weights.items()}
        tensors = {key: torch.from_numpy(value) for key, value in arrays.items()}
        return {**tensors, "center_points": points, "sem_seg_weights": torch.from_numpy(semantic)}

    def _add_instance(
        self, inside: NDArray[np.bool_], center: NDArray[Any], offset: NDArray[Any]
    ) -> list[float]:
        """Draw a thing into heatmap and offsets, in place; return its centre of mass (y, x)."""
        pixels = np.nonzero(inside)
        middle = [float(np.mean(axis)) for axis in pixels]
        for axis, places in enumerate(pixels):
            offset[axis][pixels] = middle[axis] - places
        reach = 3 * self.sigma + 1
        windows, bells = [], []
        for value, size in zip(middle, center.shape, strict=True):
            peak = round(value)
            begin, end = max(0, peak - reach), min(peak + reach + 1, size)
            windows.append(slice(begin, end))
            bells.append(np.exp(-((np.arange(begin, end) - peak) ** 2) / (2 * self.sigma**2)))
        # Where centres overlap the nearer one counts.
        part = center[tuple(windows)]
        np.maximum(part, np.outer(*bells), out=part, casting="same_kind")
        return middle
