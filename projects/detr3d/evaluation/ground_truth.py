"""Ground truth of samples as the metric takes it."""

from collections.abc import Sequence

import numpy as np

from d2ext.projects.detr3d.data.classes import BICYCLE_RACK
from d2ext.projects.detr3d.data.samples import Item
from d2ext.projects.detr3d.evaluation.boxes import GlobalBoxes
from d2ext.projects.detr3d.evaluation.filters import Surroundings


def ground_truth(items: Sequence[Item]) -> tuple[GlobalBoxes, Surroundings]:
    """Return the boxes of the ten classes of samples, not filtered, and what the filters need."""
    boxes = [_boxes(number, item) for number, item in enumerate(items)]
    truth = GlobalBoxes.cat([each[each.label >= 0] for each in boxes])
    racks = GlobalBoxes.cat(
        [
            each[np.array([name == BICYCLE_RACK for name in item["names"]], dtype=bool)]
            for each, item in zip(boxes, items, strict=True)
        ]
    )
    ego = np.array([item["ego2global"][:3, 3] for item in items]).reshape(-1, 3)
    return truth, Surroundings(ego, racks)


def _boxes(number: int, item: Item) -> GlobalBoxes:
    truth, count = item["truth"], len(item["labels"])
    return GlobalBoxes(
        sample=np.full(count, number, dtype=np.int64),
        label=item["labels"],
        translation=truth["translation"],
        size=truth["size"],
        rotation=truth["rotation"],
        velocity=truth["velocity"],
        attribute=np.array(truth["attribute"], dtype=np.str_),
        score=np.zeros(count),
        points=item["points"],
    )
