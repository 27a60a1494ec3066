"""Rules of `auto` for the sizes of images and tiles, in pixels."""

import math

import numpy as np

from d2ext.data.statistics import DatasetStats
from d2ext.engine.machine import Machine
from d2ext.engine.reasoned import Reasoned
from detectron2.config import CfgNode

TILE = 384  # side in pixels that a CPU enlarges tiles to, to learn small objects from
TILE_OBJECT = 20  # pixels that three quarters of the objects then exceed
LARGEST_ENLARGED = 1024  # short side in pixels of a whole image that is enlarged as much


def slice_size(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> int | Reasoned:
    """Derive the side of the tiles, in pixels of the image, from which a CPU learns small objects.

    A tile of `TILE` pixels costs a fraction of an enlarged image, and most of an image of small
    objects shows none. 0 means whole images: on a GPU, where objects are large, and where enlarged
    images would be too large to predict on.
    """
    if machine.device != "cpu" or not len(stats.object_sizes):
        return 0
    small = float(np.percentile(np.sqrt(stats.object_sizes.prod(axis=1)), 25))
    side = max(32, 32 * round(TILE * small / TILE_OBJECT / 32))
    native = float(np.median(stats.image_sizes.min(axis=1)))
    if side >= TILE or native < 1.5 * side or native * TILE / side > LARGEST_ENLARGED:
        return 0
    return Reasoned(side, f"a quarter of the objects are below {small:.0f} pixels")


def _tile_scale(cfg: CfgNode) -> float:
    """Return how much tiles are enlarged; 0 for whole images, or tiles of a given size."""
    size = cfg.INPUT.SLICE_SIZE
    return TILE / size if size and "INPUT.SLICE_SIZE" in cfg.AUTO else 0.0


def _short_side(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> int:
    """Derive the size of whole images, a multiple of 32, from their median short side.

    A GPU gets 1.5 times the native size, at most 800. A CPU gets 0.8 times of it, at most 256,
    unless more than a quarter of the objects would then be smaller than 16 pixels. Images below 384
    pixels are enlarged to it for their sake. Where tiles are enlarged, images are as much.
    """
    native = float(np.median(stats.image_sizes.min(axis=1)))
    if scale := _tile_scale(cfg):
        return 32 * round(scale * native / 32)
    if machine.device == "cuda":
        return max(64, 32 * round(min(800.0, 1.5 * native) / 32))
    sides = np.sqrt(stats.object_sizes.prod(axis=1))
    small = float(np.percentile(sides, 25)) if len(sides) else 64.0
    legible = min(native * 16 / max(1.0, small), max(native, 384.0), 800.0)
    return max(64, 32 * round(max(min(256.0, 0.8 * native), legible) / 32))


def min_size_train(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> tuple[int, ...]:
    """Derive the training sizes: on a GPU every multiple of 32 from 60 % of the largest on.

    Random crops of semantic masks are as large on a GPU as they are in the test image.
    """
    if _tile_scale(cfg):
        return (TILE,)
    side = _short_side(cfg, stats, machine)
    if machine.device == "cpu":
        return (side,)
    side = 32 * round(side * _crop_share(cfg) / 32)
    return tuple(range(32 * round(0.6 * side / 32), side + 1, 32))


def min_size_test(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> int:
    """Derive the test size: that of whole images, on a CPU enlarged as much as random crops are.

    Training on crops shows objects larger than whole images of the same size do (Touvron et al.
    2019, arXiv:1906.06423).
    """
    side = _short_side(cfg, stats, machine)
    return side if machine.device == "cuda" else 32 * round(side / _crop_share(cfg) / 32)


def _crop_share(cfg: CfgNode) -> float:
    """Return the smallest share of an image's side that random crops of semantic masks show."""
    crop = cfg.INPUT.CROP
    relative = crop.ENABLED and crop.TYPE in ("relative", "relative_range")
    return min(crop.SIZE) if relative and is_semantic(cfg) else 1.0


def tta_sides(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> tuple[int, ...]:
    """Derive the sizes of test-time augmentation: the test size, on which mirror images follow."""
    return (cfg.INPUT.MIN_SIZE_TEST,)


def max_size_train(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> int:
    """Derive the long side: five thirds of the short side, the ratio of 1333 to 800."""
    return math.ceil(_short_side(cfg, stats, machine) * 5 / 3)


def max_size_test(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> int:
    """Derive the long side as for training, from the test size."""
    return math.ceil(cfg.INPUT.MIN_SIZE_TEST * 5 / 3)


def is_semantic(cfg: CfgNode) -> bool:
    return cfg.MODEL.META_ARCHITECTURE == "SemanticSegmentor"


def samples_per_epoch(cfg: CfgNode, stats: DatasetStats) -> int:
    """Count the images per epoch, or the tiles that cover them."""
    if not _tile_scale(cfg):
        return len(stats.image_sizes)
    return int(np.ceil(stats.image_sizes / cfg.INPUT.SLICE_SIZE).prod(axis=1).sum())
