"""Rules for `auto` values of the family."""

from d2ext.data import DatasetStats
from d2ext.engine.auto import Machine, register_auto
from detectron2.config import CfgNode


def _thing_ids(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> list[int]:
    """Return the classes of panoptic data that are things."""
    return list(stats.thing_ids)


register_auto("MODEL.DETR.PANOPTIC.THING_IDS", _thing_ids)
