"""Boxes of many samples in the global frame, as the metric takes them: one array per field."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from d2ext.projects.detr3d.data.geometry import Array

Index = NDArray[np.int64]


@dataclass(frozen=True)
class GlobalBoxes:
    """N boxes, sample after sample.

    Attributes:
        sample: (N,) number of the sample, ascending.
        label: (N,) index of the class.
        translation: (N, 3) gravity centre in metres.
        size: (N, 3) width, length, height in metres.
        rotation: (N, 4) quaternions.
        velocity: (N, 2) m/s; NaN if unknown.
        attribute: (N,) names; "" if there is none.
        score: (N,); 0 for ground truth.
        points: (N,) lidar and radar points in ground truth, -1 for detections.
    """

    sample: Index
    label: Index
    translation: Array
    size: Array
    rotation: Array
    velocity: Array
    attribute: NDArray[np.str_]
    score: Array
    points: Index

    def __len__(self) -> int:
        return len(self.sample)

    def __getitem__(self, chosen: np.ndarray) -> "GlobalBoxes":
        """Return the boxes of a mask or of indices."""
        return GlobalBoxes(*(getattr(self, field.name)[chosen] for field in fields(self)))

    @classmethod
    def cat(cls, parts: Sequence["GlobalBoxes"]) -> "GlobalBoxes":
        """Concatenate boxes; the samples of the parts must ascend."""
        names = [field.name for field in fields(cls)]
        joined = [np.concatenate([getattr(part, name) for part in parts]) for name in names]
        return cls(*joined) if parts else cls.empty()

    @classmethod
    def empty(cls) -> "GlobalBoxes":
        """Return no boxes."""
        none = np.zeros(0, dtype=np.int64)
        floats = [np.zeros((0, width)) for width in (3, 3, 4, 2)]
        return cls(none, none, *floats, np.zeros(0, dtype="<U1"), np.zeros(0), none)
