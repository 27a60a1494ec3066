"""Conversion of configs between Detectron2's schema versions 0, 1 and 2."""

import logging
from typing import Any, TypeVar

from fvcore.common.config import CfgNode

__all__ = ["downgrade_config", "upgrade_config"]

LATEST_VERSION = 2

Config = TypeVar("Config", bound=CfgNode)  # configs keep their class

# The keys that each version renamed: old name to new name.
_RENAMED: dict[int, dict[str, str]] = {
    1: {"MODEL.RPN_HEAD.NAME": "MODEL.RPN.HEAD_NAME"},
    2: {
        "MODEL.WEIGHT": "MODEL.WEIGHTS",
        "MODEL.PANOPTIC_FPN.SEMANTIC_LOSS_SCALE": "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT",
        "MODEL.PANOPTIC_FPN.RPN_LOSS_SCALE": "MODEL.RPN.LOSS_WEIGHT",
        "MODEL.PANOPTIC_FPN.INSTANCE_LOSS_SCALE": "MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT",
        **{
            f"MODEL.PANOPTIC_FPN.COMBINE_{old}": f"MODEL.PANOPTIC_FPN.COMBINE.{new}"
            for old, new in {
                "ON": "ENABLED",
                "OVERLAP_THRESHOLD": "OVERLAP_THRESH",
                "STUFF_AREA_LIMIT": "STUFF_AREA_LIMIT",
                "INSTANCES_CONFIDENCE_THRESHOLD": "INSTANCES_CONFIDENCE_THRESH",
            }.items()
        },
        "MODEL.ROI_HEADS.SCORE_THRESH": "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
        "MODEL.ROI_HEADS.NMS": "MODEL.ROI_HEADS.NMS_THRESH_TEST",
        "MODEL.RETINANET.INFERENCE_SCORE_THRESHOLD": "MODEL.RETINANET.SCORE_THRESH_TEST",
        "MODEL.RETINANET.INFERENCE_TOPK_CANDIDATES": "MODEL.RETINANET.TOPK_CANDIDATES_TEST",
        "MODEL.RETINANET.INFERENCE_NMS_THRESHOLD": "MODEL.RETINANET.NMS_THRESH_TEST",
        "TEST.DETECTIONS_PER_IMG": "TEST.DETECTIONS_PER_IMAGE",
        "TEST.AUG_ON": "TEST.AUG.ENABLED",
        **{f"TEST.AUG_{key}": f"TEST.AUG.{key}" for key in ("MIN_SIZES", "MAX_SIZE", "FLIP")},
    },
}
# Keys that only version 1 has: they identify a file without VERSION.
_ONLY_IN_VERSION_1 = ("MODEL.WEIGHT", "TEST.AUG_ON")
_ANCHORS = {"ANCHOR_SIZES": "SIZES", "ANCHOR_ASPECT_RATIOS": "ASPECT_RATIOS"}


def upgrade_config(cfg: Config, to_version: int | None = None) -> Config:
    """Return a copy of a complete config in a newer schema, by default the newest.

    Raises:
        ValueError: the config is newer.
    """
    present = cfg.VERSION
    target = LATEST_VERSION if to_version is None else to_version
    if present > target:
        raise ValueError(f"Cannot upgrade a config from v{present} to v{target}.")
    cfg = _editable(cfg)
    for version in range(present + 1, target + 1):
        for old, new in _RENAMED[version].items():
            _move(cfg, old, new)
        if version == 2:
            _join_anchors(cfg)
        cfg.VERSION = version
    return cfg


def downgrade_config(cfg: Config, to_version: int) -> Config:
    """Return a copy of a complete config in an older schema, for merging an older file into it.

    Raises:
        ValueError: the config is older.
    """
    present = cfg.VERSION
    if present < to_version:
        raise ValueError(f"Cannot downgrade a config from v{present} to v{to_version}.")
    cfg = _editable(cfg)
    for version in range(present, to_version, -1):
        for old, new in _RENAMED[version].items():
            _move(cfg, new, old)
        if version == 2:
            _split_anchors(cfg)
        cfg.VERSION = version - 1
    return cfg


def guess_version(cfg: CfgNode, filename: str) -> int:
    """Guess the version of a partial config without VERSION: 1 if it has keys that only v1 has."""
    logger = logging.getLogger(__name__)
    if any(_section_of(cfg, key) is not None for key in _ONLY_IN_VERSION_1):
        logger.warning(f"Config '{filename}' has no VERSION. Assuming it to be v1.")
        return 1
    logger.warning(
        f"Config '{filename}' has no VERSION. "
        f"Assuming it to be compatible with latest v{LATEST_VERSION}."
    )
    return LATEST_VERSION


def _editable(cfg: Config) -> Config:
    cfg = cfg.clone()
    cfg.defrost()
    return cfg


def _section_of(cfg: Any, key: str) -> Any:
    """Return the section that holds the last part of a dotted key, or None."""
    *sections, last = key.split(".")
    for name in sections:
        cfg = cfg.get(name)
        if not isinstance(cfg, dict):
            return None
    return cfg if last in cfg else None


def _move(cfg: CfgNode, old: str, new: str) -> None:
    source = _section_of(cfg, old)
    if source is not None:
        _put(cfg, new, source.pop(old.rpartition(".")[2]))
        _drop_if_empty(cfg, old.rpartition(".")[0])


def _put(cfg: CfgNode, key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for name in sections:
        cfg = cfg.setdefault(name, type(cfg)())
    cfg[last] = value


def _drop_if_empty(cfg: CfgNode, key: str) -> None:
    parent = _section_of(cfg, key)
    name = key.rpartition(".")[2]
    if parent is not None and parent[name] == {}:
        del parent[name]


def _join_anchors(cfg: CfgNode) -> None:
    """Merge the anchor settings of RPN and RetinaNet, which version 2 keeps in one section."""
    used = "RETINANET" if cfg.MODEL.META_ARCHITECTURE == "RetinaNet" else "RPN"
    for old, new in _ANCHORS.items():
        for owner in ("RPN", "RETINANET"):
            if owner == used:
                _move(cfg, f"MODEL.{owner}.{old}", f"MODEL.ANCHOR_GENERATOR.{new}")
            else:
                cfg.MODEL[owner].pop(old, None)
    cfg.MODEL.RETINANET.pop("ANCHOR_STRIDES", None)


def _split_anchors(cfg: CfgNode) -> None:
    for old, new in _ANCHORS.items():
        value = cfg.MODEL.ANCHOR_GENERATOR.pop(new)
        cfg.MODEL.RPN[old] = cfg.MODEL.RETINANET[old] = value
    cfg.MODEL.RETINANET.ANCHOR_STRIDES = []  # unused, but part of the version 1 schema
