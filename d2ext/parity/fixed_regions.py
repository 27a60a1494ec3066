"""The regions of which a case of a two-stage detector stores the second stage's outputs."""

from collections.abc import Sequence
from typing import Any

import torch

from d2ext.errors import DataError
from d2ext.parity import recipe
from d2ext.parity.case import Case
from detectron2.structures import Boxes, Instances

STORED = ("fixed{}.boxes", "fixed.boxes{}")  # keys of golden.npz, by the index of the image


def fixed_regions(case: Case, truth: Sequence[Instances]) -> list[Boxes]:
    """Return the regions of each image of the outputs `fixed.*`.

    They are arrays of `golden.npz`; or follow from an entry of the case's `input` whose name
    begins with "fixed", a list with the boxes of each image, or with the seed and count of the
    recipe's; or else they are the ground truth's boxes.
    """
    for pattern in STORED:
        if pattern.format(0) in case.golden:
            return stored_boxes(case, pattern, len(truth))
    if len(truth) == 1 and "fixed.boxes" in case.golden:
        return [Boxes(torch.from_numpy(case.golden["fixed.boxes"]))]
    facts = next((facts for name, facts in case.facts["input"].items() if _is_fixed(name)), None)
    if not isinstance(facts, list):
        return [of_image.gt_boxes for of_image in truth]
    return [_boxes(entry, image) for entry, image in zip(facts, truth, strict=True)]


def stored_boxes(case: Case, pattern: str, images: int) -> list[Boxes]:
    """Return boxes that the case stores per image, under a name with a place for its index."""
    names = [pattern.format(index) for index in range(images)]
    return [Boxes(torch.from_numpy(case.golden[name])) for name in names]


def _is_fixed(name: str) -> bool:
    return name.startswith("fixed")


def _boxes(entry: Any, image: Instances) -> Boxes:
    if isinstance(entry, dict) and "boxes" in entry:
        entry = entry["boxes"]
    if isinstance(entry, list):
        return Boxes(torch.tensor(entry, dtype=torch.float32).view(-1, 4))
    if not isinstance(entry, dict) or not {"seed", "count"} <= entry.keys():
        raise DataError(f"case.json: input.fixed: neither boxes nor seed and count: {entry!r}")
    classes = entry.get("num_classes", 1)
    boxes, _ = recipe.boxes(entry["seed"], *image.image_size, entry["count"], classes)
    return Boxes(torch.from_numpy(boxes))
