"""Panoptic-DeepLab (Cheng et al. 2020, arXiv:1911.10194): heads, model, targets and grouping."""

from .config import add_panoptic_deeplab_config
from .dataset_mapper import PanopticDeeplabDatasetMapper
from .panoptic_seg import (
    INS_EMBED_BRANCHES_REGISTRY,
    PanopticDeepLab,
    PanopticDeepLabInsEmbedHead,
    PanopticDeepLabSemSegHead,
    build_ins_embed_branch,
)

__all__ = [
    "INS_EMBED_BRANCHES_REGISTRY",
    "PanopticDeepLab",
    "PanopticDeepLabInsEmbedHead",
    "PanopticDeepLabSemSegHead",
    "PanopticDeeplabDatasetMapper",
    "add_panoptic_deeplab_config",
    "build_ins_embed_branch",
]
