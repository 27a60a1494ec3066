"""Figure of a data set: objects per class and their sizes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, FuncFormatter

from d2ext.data.statistics import DatasetStats
from d2ext.visualization.figures import COLORS, FAINT, INK, figure, shortened, tidy

_MOST_CLASSES = 120  # of more, the most and the least frequent are shown
_ROWS = 30  # classes per column
_SMALL, _LARGE = 32, 96  # COCO's limits between sizes: square roots of areas, in pixels


def save_class_counts(stats: DatasetStats | Mapping[str, DatasetStats], path: str | Path) -> None:
    """Draw the number of objects per class and the distribution of their sizes.

    Args:
        stats: of one data set, or by name of several with the same classes, e.g.
            {"train": ..., "val": ...}; classes are sorted by frequency in the first.
        path: .png to write.
    """
    sets = dict(stats) if isinstance(stats, Mapping) else {"": stats}
    names, counts = _frequent_first(sets)
    columns = max(1, -(-len(names) // _ROWS))
    rows = -(-len(names) // columns)
    with figure(path, 5 + 4.4 * columns, max(4.6, 1.4 + (0.17 + 0.07 * len(sets)) * rows)) as drawn:
        drawn.suptitle(_headline(sets), x=0.01, ha="left", fontsize=12, color=INK)
        axes = drawn.subplots(1, columns + 1, squeeze=False, width_ratios=[1] * columns + [1.1])[0]
        for column in range(columns):
            part = slice(column * rows, (column + 1) * rows)
            _draw_bars(axes[column], names[part], {k: v[part] for k, v in counts.items()})
            axes[column].set_ylim(rows - 0.4, -0.6)
            _scale_counts(axes[column], np.stack(list(counts.values())))
        axes[0].set_title("objects per class", loc="left", fontsize=11, fontweight="bold")
        _draw_sizes(axes[-1], sets)
        if len(sets) > 1:
            axes[-1].legend(frameon=False, loc="center right")


def _scale_counts(axes: Axes, counts: np.ndarray) -> None:
    """Choose a logarithmic axis if one class dwarfs the others."""
    most = max(1, counts.max(initial=0))
    if most > 30 * max(1.0, np.median(counts[0])):
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(0, 6 * most)
    else:
        axes.set_xlim(0, 1.2 * most)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _frequent_first(sets: Mapping[str, DatasetStats]) -> tuple[list[str], dict[str, np.ndarray]]:
    first = next(iter(sets.values()))
    order = np.argsort(-np.asarray(first.class_counts), kind="stable")
    if len(order) > _MOST_CLASSES:
        half = _MOST_CLASSES // 2
        order = np.concatenate((order[:half], order[-half:]))
    names = [first.class_names[i] for i in order]
    return names, {name: np.asarray(f.class_counts)[order] for name, f in sets.items()}


def _headline(sets: Mapping[str, DatasetStats]) -> str:
    parts = []
    for name, stats in sets.items():
        objects, images = int(np.sum(stats.class_counts)), len(stats.image_sizes)
        parts.append(f"{name + ': ' if name else ''}{objects:,} objects in {images:,} images")
    total = len(next(iter(sets.values())).class_names)
    parts.append(f"{total} class{'es' * (total != 1)}")
    if total > _MOST_CLASSES:
        parts.append(f"shown: the {_MOST_CLASSES // 2} most and least frequent")
    return ";  ".join(parts)


def _draw_bars(axes: Axes, names: list[str], counts: Mapping[str, np.ndarray]) -> None:
    tidy(axes, "", grid="x")
    thick = 0.8 / len(counts)
    for i, (name, values) in enumerate(counts.items()):
        places = np.arange(len(values)) + (i - (len(counts) - 1) / 2) * thick
        bars = axes.barh(places, values, 0.9 * thick, color=COLORS[i], label=name)
        axes.bar_label(bars, [f"{v:,}" for v in values], padding=3, fontsize=7, color=FAINT)
    axes.set_yticks(range(len(names)), [shortened(name, 32) for name in names], color=INK)
    axes.spines["bottom"].set_visible(False)


def _draw_sizes(axes: Axes, sets: Mapping[str, DatasetStats]) -> None:
    """Draw a histogram of the square roots of the boxes' areas, and the share of each size."""
    tidy(axes, "sizes of boxes", grid="x")
    sides = {n: np.sqrt(np.prod(f.object_sizes, axis=1, dtype=float)) for n, f in sets.items()}
    everything = np.concatenate(list(sides.values())).clip(1)
    if not len(everything):
        return
    edges = np.geomspace(min(8, everything.min()), max(128, everything.max()), 33)
    for i, (name, values) in enumerate(sides.items()):
        weights = np.full(len(values), 100 / max(1, len(values)))
        style: Any = {"color": COLORS[i], "alpha": 0.6, "label": name}
        axes.hist(values.clip(1), edges.tolist(), weights=weights, **style)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("square root of the area, in pixels of the image")
    axes.set_ylabel("% of the objects")
    _draw_limits(axes, next(iter(sides.values())))


def _draw_limits(axes: Axes, sides: np.ndarray) -> None:
    for limit in (_SMALL, _LARGE):
        axes.axvline(limit, color=FAINT, linewidth=1, linestyle="--")
    low, high = axes.get_xlim()
    spans = {"small": (low, _SMALL), "medium": (_SMALL, _LARGE), "large": (_LARGE, high)}
    axes.set_ylim(top=1.2 * axes.get_ylim()[1])
    for name, (start, end) in spans.items():
        share = np.mean((sides >= start) & (sides < end)) if len(sides) else 0
        middle = np.sqrt(start * end)
        place: Any = {"ha": "center", "va": "top", "transform": axes.get_xaxis_transform()}
        axes.text(middle, 0.98, f"{name}\n{share:.0%}", fontsize=9, color=FAINT, **place)
