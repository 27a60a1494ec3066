"""What a conversion needs for any format: names for images, and an account of what is lost."""

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from d2ext.data.formats import DatasetSplit, Item
from d2ext.data.mask_validity import invalid_mask

Losses = Counter[str]  # what the target cannot hold, and how often


@dataclass
class Plan:
    """One split on its way into another format.

    Args:
        split: "train", "val", "test", or "" where the data set has none.
        dataset: its objects; those that no format can hold are gone.
        names: file names for the images, no two alike even without their suffixes.
    """

    split: str
    dataset: DatasetSplit
    names: list[str] = field(default_factory=list)


def plan(dataset: DatasetSplit, split: str, losses: Losses, taken: set[str]) -> Plan:
    """Name the images of a split and leave out boxes that have no finite numbers.

    Args:
        losses: added to.
        taken: stems of names that are in use; added to.
    """
    for issue in dataset.issues:
        losses[f"{issue.code}: left out while reading"] += 1
    names = []
    for image in dataset.images:
        names.append(_unused(Path(image["file_name"]).name, taken))
        losses["images renamed, as two had the same name"] += (
            names[-1] != Path(image["file_name"]).name
        )
        kept = [item for item in image["annotations"] if all(map(math.isfinite, item["bbox"]))]
        losses["boxes left out that are not finite"] += len(image["annotations"]) - len(kept)
        image["annotations"] = [_with_sound_mask(item, image, losses) for item in kept]
    return Plan(split, dataset, names)


def _with_sound_mask(item: Item, image: Item, losses: Losses) -> Item:
    """Return the object without its mask if that is none; the C code of writers relies on it."""
    problem = invalid_mask(item.get("segmentation"), image["width"], image["height"])
    if problem is None or problem[0] == "mask-empty":
        return item
    losses[f"{problem[0]}: masks left out"] += 1
    return {key: value for key, value in item.items() if key != "segmentation"}


def without_crowds(image: Item, losses: Losses) -> list[Item]:
    """Return the annotations of an image that are single objects."""
    kept = [item for item in image["annotations"] if not item["iscrowd"]]
    losses["crowd regions left out"] += len(image["annotations"]) - len(kept)
    return kept


def _unused(name: str, taken: set[str]) -> str:
    path, number = Path(name), 1
    while (stem := f"{path.stem}_{number}" if number > 1 else path.stem).casefold() in taken:
        number += 1
    taken.add(stem.casefold())
    return stem + path.suffix
