"""Charts of HTML pages, as SVG of a phone's width, so that text stays legible there."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, FuncFormatter

from d2ext.visualization.figures import COLORS, FAINT, shortened, svg, tidy

Series = Mapping[str, tuple[np.ndarray, np.ndarray]]
_WIDTH, _HEIGHT = 4.2, 3.0  # inches


def bars(title: str, names: Sequence[str], counts: Mapping[str, np.ndarray]) -> bytes:
    """Draw horizontal bars: per name one value of each series."""
    height = max(1.2, 0.7 + (0.16 + 0.1 * len(counts)) * len(names))
    with svg(_WIDTH, height) as drawn:
        axes = drawn.subplots()
        tidy(axes, title, grid="x")
        thick = 0.8 / len(counts)
        for i, (name, values) in enumerate(counts.items()):
            places = np.arange(len(names)) + (i - (len(counts) - 1) / 2) * thick
            drawn_bars = axes.barh(places, values, 0.9 * thick, color=COLORS[i], label=name)
            labels = [f"{value:,}" for value in values]
            axes.bar_label(drawn_bars, labels, padding=3, fontsize=8, color=FAINT)
        axes.set_yticks(range(len(names)), [shortened(name, 24) for name in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlim(0, 1.25 * max([1, *(int(max(v, default=1)) for v in counts.values())]))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        _legend(axes, len(counts))
    return drawn.content


def histogram(title: str, label: str, values: Mapping[str, np.ndarray], *, base: int = 2) -> bytes:
    """Draw a histogram of positive values, in percent, on a logarithmic axis."""
    with svg(_WIDTH, _HEIGHT) as drawn:
        axes = drawn.subplots()
        tidy(axes, title, grid="x")
        positive = {name: v[np.isfinite(v) & (v > 0)] for name, v in values.items()}
        everything = np.concatenate([np.ones(1), *positive.values()])
        edges = np.geomspace(everything.min() / 1.1, everything.max() * 1.1, 33)
        for i, (name, found) in enumerate(positive.items()):
            weights = np.full(len(found), 100 / max(1, len(found)))
            axes.hist(
                found, edges.tolist(), weights=weights, color=COLORS[i], alpha=0.6, label=name
            )
        axes.set_xscale("log", base=base)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel(label)
        axes.set_ylabel("% of the objects")
        _legend(axes, len(values))
    return drawn.content


def heat(title: str, counts: np.ndarray) -> bytes:
    """Draw a heat map of (rows, columns) counts, the first at the image's upper left."""
    with svg(_WIDTH, _HEIGHT) as drawn:
        axes = drawn.subplots()
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
        axes.imshow(counts, cmap="viridis", aspect="auto", extent=(0, 1, 1, 0))
        axes.set_xlabel("share of the width")
        axes.set_ylabel("share of the height")
    return drawn.content


def lines(title: str, label: str, series: Series, *, from_zero: bool = True) -> bytes:
    """Draw series as lines over their x values."""
    with svg(_WIDTH, _HEIGHT) as drawn:
        axes = drawn.subplots()
        tidy(axes, title)
        for i, (name, (x, y)) in enumerate(series.items()):
            style = "o-" if len(x) < 25 else "-"
            axes.plot(x, y, style, color=COLORS[i % len(COLORS)], lw=1.6, ms=3, label=name)
        axes.set_xlabel(label)
        values = np.concatenate([np.zeros(1), *(y[np.isfinite(y)] for _, y in series.values())])
        if from_zero and values.min() >= 0:
            # The huge first losses must not flatten the rest.
            axes.set_ylim(0, 1.1 * max(np.quantile(values, 0.98), 1e-12))
        _legend(axes, len(series))
    return drawn.content


def _legend(axes: Axes, count: int) -> None:
    if 1 < count <= 12:
        axes.legend(frameon=False, fontsize=8)
