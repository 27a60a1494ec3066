"""Which boxes the metric counts: in the range of their class, with points, in no bicycle rack.

Source: Caesar et al., "nuScenes", 2020, arXiv:1903.11027, and its detection task of 2019.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2ext.projects.detr3d.data.classes import CLASS_RANGE, CLASSES
from d2ext.projects.detr3d.data.geometry import Array, rotation_matrices
from d2ext.projects.detr3d.evaluation.boxes import GlobalBoxes
from d2ext.projects.detr3d.evaluation.pairs import pairs_per_sample

_RANGES = np.array([CLASS_RANGE[name] for name in CLASSES])
_CYCLES = [CLASSES.index(name) for name in ("bicycle", "motorcycle")]


@dataclass(frozen=True)
class Surroundings:
    """What the filters need of S samples.

    Attributes:
        ego: (S, 3) position of the ego vehicle in the global frame, in metres.
        racks: bicycle racks; their labels do not matter.
    """

    ego: Array
    racks: GlobalBoxes


def filter_boxes(boxes: GlobalBoxes, surroundings: Surroundings) -> GlobalBoxes:
    """Return the boxes that count, in their order."""
    apart = boxes.translation[:, :2] - surroundings.ego[boxes.sample, :2]
    near = np.linalg.norm(apart, axis=1) < _RANGES[boxes.label]
    boxes = boxes[near & (boxes.points != 0)]
    return boxes[~_in_racks(boxes, surroundings.racks)]


def _in_racks(boxes: GlobalBoxes, racks: GlobalBoxes) -> NDArray[np.bool_]:
    """Return (N,) True for bicycles and motorcycles whose centre lies in a rack of the sample."""
    inside = np.zeros(len(boxes), dtype=bool)
    cycles = np.flatnonzero(np.isin(boxes.label, _CYCLES))
    for index, rack in pairs_per_sample(boxes.sample[cycles], racks.sample):
        offset = boxes.translation[cycles[index]] - racks.translation[rack]
        own = np.einsum("nij,ni->nj", rotation_matrices(racks.rotation[rack]), offset)
        half = racks.size[rack][:, [1, 0, 2]] / 2  # length along x, width along y
        inside[cycles[index[(np.abs(own) <= half).all(axis=1)]]] = True
    return inside
