"""Rules that derive settings of MaskFormer and Mask2Former from the data."""

import math

import numpy as np

from d2ext.data.statistics import DatasetStats
from d2ext.engine.auto import Machine, Reasoned, register_auto
from detectron2.config import CfgNode

_STEP, _MOST = 50, 300  # numbers of queries
_SPARE = 1.5  # queries per mask: matching needs a choice


def choose_num_queries(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> Reasoned:
    """Derive the number of queries: one and a half times the most masks of an image.

    It is a multiple of 50, at most 300. Where training cuts images into tiles, a tile counts.
    """
    task = cfg.MODEL.MASK_FORMER.TASK
    classes = len(stats.stuff_names) if task != "instance" else 0
    things = _most_objects(stats, cfg.INPUT.SLICE_SIZE) if task != "semantic" else 0
    wanted = math.ceil(_SPARE * (classes + things) / _STEP) * _STEP
    chosen = max(_STEP, min(_MOST, wanted))
    where = "a tile" if cfg.INPUT.SLICE_SIZE else "an image"
    return Reasoned(chosen, f"at most {classes + things} masks in {where}")


def choose_thing_ids(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> list[int]:
    """List the classes of panoptic data that are things."""
    return list(stats.thing_ids)


def _most_objects(stats: DatasetStats, tile: int) -> int:
    """Return the most objects of an image, or of a tile if they are spread evenly."""
    counts = np.bincount(stats.object_images, minlength=stats.num_images).astype(np.float64)
    if tile:
        counts *= np.minimum(1, tile / stats.image_sizes).prod(axis=1)
    return math.ceil(counts.max(initial=0))


register_auto("MODEL.MASK_FORMER.NUM_QUERIES", choose_num_queries)
register_auto("MODEL.MASK_FORMER.THING_IDS", choose_thing_ids)
