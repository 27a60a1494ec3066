"""Anchors for a data set by k-means on the widths and heights of its boxes."""

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from d2ext.data import DatasetStats
from d2ext.data.augmentation.resize import resize_to
from d2ext.engine.auto import Machine, Reasoned, register_auto
from d2ext.errors import ConfigError
from detectron2.config import CfgNode

SEED = 0
STARTS = 16  # of k-means; the one with the best recall is kept
ROUNDS = 100  # of each start

Sizes = NDArray[np.float64]  # (N, 2) widths and heights, pixels


def anchors_for(cfg: CfgNode, stats: DatasetStats, machine: Machine | None = None) -> Reasoned:
    """Compute the anchors of `MODEL.YOLO_FASTEST.ANCHORS: auto`.

    Returns:
        As many anchors as the config has, for as many levels, the smaller ones for finer levels;
        and the best possible recall.
    """
    yolo = cfg.MODEL.YOLO_FASTEST
    default = np.array(yolo.ANCHORS, dtype=np.float64)  # (L, A, 2)
    sizes = input_sizes(cfg, stats)
    if len(np.unique(sizes, axis=0)) < default[..., 0].size:
        return Reasoned(default.tolist(), "as they were: too few boxes to compute anchors from")
    found = best_anchors(sizes, default[..., 0].size, yolo.MATCH_RATIO)
    recall = best_possible_recall(sizes, found, yolo.MATCH_RATIO)
    anchors = found.reshape(default.shape).round(2).tolist()
    return Reasoned(anchors, f"of {len(sizes)} boxes; best possible recall {recall:.4f}")


def input_sizes(cfg: CfgNode, stats: DatasetStats) -> Sizes:
    """Return the widths and heights of all boxes in the network's input, without empty ones."""
    resize = resize_to(cfg)
    if resize is None:
        raise ConfigError("anchors can be computed where INPUT.RESIZE is stretch or letterbox.")
    after = [resize.size_of(height, width)[::-1] for width, height in stats.image_sizes]
    scales = np.array(after).reshape(-1, 2) / stats.image_sizes
    sizes = stats.object_sizes * scales[stats.object_images]
    return sizes[(sizes > 0).all(axis=1)]


def best_anchors(sizes: Sizes, count: int, ratio: float, seed: int = SEED) -> Sizes:
    """Compute `count` anchors by k-means, sorted by area."""
    # Of logarithms, since boxes match anchors by the ratio of their sides.
    rng = np.random.default_rng(seed)
    starts = [
        kmeans2(np.log(sizes), count, iter=ROUNDS, minit="++", seed=rng)[0] for _ in range(STARTS)
    ]
    recalls = [best_possible_recall(sizes, np.exp(centers), ratio) for centers in starts]
    found = np.exp(starts[int(np.argmax(recalls))])
    return found[found.prod(axis=1).argsort()]


def best_possible_recall(sizes: Sizes, anchors: Sizes, ratio: float) -> float:
    """Return the share of boxes with an anchor whose sides both differ by less than `ratio`."""
    factors = sizes[:, None] / anchors
    return float((np.maximum(factors, 1 / factors).max(axis=2) < ratio).any(axis=1).mean())


register_auto("MODEL.YOLO_FASTEST.ANCHORS", anchors_for)
