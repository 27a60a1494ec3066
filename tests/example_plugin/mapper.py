"""A dataset mapper that inverts training images at random."""

from dataclasses import dataclass

import numpy as np

from d2ext.data.mappers import Items, Mapper, Mode, build_default_mapper, register_mapper
from detectron2.config import CfgNode


@dataclass
class InvertingMapper:
    """The default mapper, then 255 minus every pixel for a share of the images.

    Args:
        mapper: what reads, augments and makes `Instances`.
        probability: share of inverted images.
    """

    mapper: Mapper
    probability: float

    def __call__(self, item: dict) -> dict:
        item = self.mapper(item)
        if np.random.rand() < self.probability:  # seeded per sample by the loader
            item["image"] = 255 - item["image"]
        return item


def build_inverting_mapper(cfg: CfgNode, mode: Mode, items: Items) -> Mapper:
    """Build the mapper; only training images are inverted."""
    mapper = build_default_mapper(cfg, mode, items)
    return InvertingMapper(mapper, cfg.INPUT.INVERT) if mode == "train" else mapper


register_mapper("inverting", build_inverting_mapper)
