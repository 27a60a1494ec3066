"""Duplicates among rotated boxes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from d2ext.data.checks import boxes as box_checks
from d2ext.data.checks.boxes import check_duplicate_boxes
from d2ext.data.checks.context import CheckContext
from d2ext.data.formats import DatasetSplit
from d2ext.ops import box_iou_rotated


def crowded(count, side, seed=0):
    """Return the context of an image with `count` boxes and each without 15 to 25 % at one end."""
    rng = np.random.default_rng(seed)
    boxes = rng.uniform([0, 0, 1, 1, -180], [side, side, 60, 20, 180], (count, 5))
    cut, angles = rng.uniform(0.15, 0.25, count), np.deg2rad(boxes[:, 4])
    shift = boxes[:, 2] * cut / 2 * rng.choice([-1, 1], count)
    shorter = boxes.copy()
    shorter[:, :2] += shift[:, None] * np.stack([np.cos(angles), -np.sin(angles)], axis=1)
    shorter[:, 2] *= 1 - cut
    objects = [
        {"bbox": box, "category_id": 0, "record": 1} for box in [*boxes.tolist(), *shorter.tolist()]
    ]
    image = {"file_name": "a.png", "annotated_in": "a", "width": side, "height": side}
    images = [image | {"annotations": objects}]
    return CheckContext("train", DatasetSplit("DOTA", Path("a"), "", "rotated", ("cat",), images))


@pytest.mark.parametrize("seed", range(4))
def test_duplicates_of_rotated_boxes_are_those_of_comparing_all_with_all(seed):
    context = crowded(300, 800, seed)
    check_duplicate_boxes(context)
    boxes = torch.from_numpy(context.raw_boxes[context.usable])
    ious = box_iou_rotated(boxes, boxes).tril(-1)
    assert len(context.issues) == int((ious.amax(1) >= 0.8).sum())
    assert 100 < len(context.issues) < 200


def test_rotated_boxes_of_a_crowd_are_compared_with_near_ones_alone(monkeypatch):
    compared = []

    def counted(boxes, others):
        compared.append(len(boxes))
        return torch.zeros(len(boxes), dtype=boxes.dtype)

    monkeypatch.setattr(box_checks, "matched_iou_rotated", counted)
    check_duplicate_boxes(crowded(10_000, 4000))
    assert 10_000 <= sum(compared) < 50_000  # of 200 million pairs
