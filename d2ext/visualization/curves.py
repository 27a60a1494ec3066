"""Figure of a training: losses, learning rate and the evaluator's metrics over iterations."""

import json
import re
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from d2ext.files import read_regular
from d2ext.visualization.figures import COLORS, FAINT, figure, tidy

Series = tuple[np.ndarray, np.ndarray]  # iterations and values, both (N,)

_AP_LINES = ("AP", "AP50", "AP75", "APs", "APm", "APl")
_THIN = ("APs", "APm", "APl")
_FIRST = ("PQ", "mIoU", "NDS", "mAP")  # of tasks without AP
_MOST = 4  # lines of such a task
# First parts of keys that training writes: "rpn/num_pos_anchors", "stage0/roi_head/...".
_TRAINING = re.compile(r"(val|timing|rpn|roi_head|\w+_rcnn|point|stage\d+|data_loading)/")


def save_curves(metrics_json: str | Path, path: str | Path) -> None:
    """Draw the curves of metrics.json; metrics that it lacks are left out.

    The metrics are `total_loss`, `*loss*`, the same under `val/`, `lr`, and those of the evaluator,
    "task/metric"; of a task without AP at most four, and none of single classes ("IoU-sky").
    """
    series = read_metrics(metrics_json)
    terms = sorted(k for k in series if "loss" in k and k != "total_loss" and "/" not in k)
    with figure(path, 12, 8) as drawn:
        panels = drawn.subplots(2, 2).flat
        _draw_losses(panels[0], series, ["total_loss"], "total loss")
        _draw_losses(panels[1], series, terms, "loss terms")
        _draw_metrics(panels[2], series)
        _draw_rate(panels[3], series)


def read_metrics(metrics_json: str | Path) -> dict[str, Series]:
    """Read every metric as a series over iterations.

    A line that a kill cut short is skipped. If an iteration occurs twice, as after a resume, the
    later line counts.
    """
    values: dict[str, dict[float, float]] = {}
    for line in read_regular(metrics_json).decode("utf-8", "replace").splitlines():
        row = _parse_row(line)
        iteration = row.pop("iteration", None)
        for key, value in row.items() if isinstance(iteration, int | float) else ():
            if isinstance(value, int | float):
                values.setdefault(key, {})[iteration] = value
    return {key: _as_series(points) for key, points in values.items()}


def _parse_row(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line, parse_int=float)  # whole numbers may be larger than any float
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _as_series(points: dict[float, float]) -> Series:
    ordered = sorted(points.items())
    return np.array([i for i, _ in ordered]), np.array([float(v) for _, v in ordered])


def _draw_losses(axes: Axes, series: dict[str, Series], keys: Sequence[str], title: str) -> None:
    """Draw training losses as lines and validation losses as dots of the same colour."""
    tidy(axes, title)
    shown = [key for key in keys if key in series]
    for key, color in zip(shown, cycle(COLORS), strict=False):
        iterations, values = series[key]
        axes.plot(iterations, values, color=color, alpha=0.25, linewidth=1)
        style = "-" if len(values) > 1 else "o"
        axes.plot(iterations, smoothed(values), style, color=color, lw=1.8, label=key)
        if f"val/{key}" in series:
            axes.plot(*series[f"val/{key}"], "o:", color=color, markersize=4, label=f"val/{key}")
    _finish(axes)
    if shown:
        _cut_off_outliers(axes, np.concatenate([series[key][1] for key in shown]))


def _draw_metrics(axes: Axes, series: dict[str, Series]) -> None:
    """Draw the evaluator's metrics of every task and data set."""
    tidy(axes, "evaluation")
    for key, color in zip(_evaluated(series), cycle(COLORS), strict=False):
        iterations, values = series[key]
        thin = key.rpartition("/")[2] in _THIN
        label = f"{key}  {values[-1]:.1f}"
        style = ".--" if thin else "o-"
        axes.plot(iterations, values, style, color=color, lw=1 if thin else 2, ms=4, label=label)
    _finish(axes)


def _evaluated(series: dict[str, Series]) -> list[str]:
    """Return the keys of the metrics to draw: AP of all tasks first, then the other tasks'."""
    keys = [key for key in series if "/" in key and not _TRAINING.match(key)]
    names = {key: key.rpartition("/")[2] for key in keys}
    shown = [key for name in _AP_LINES for key in keys if names[key] == name]
    tasks = {key.rpartition("/")[0] for key in shown}
    others: dict[str, list[str]] = {}
    for key in keys:
        if (task := key.rpartition("/")[0]) not in tasks and "-" not in names[key]:
            others.setdefault(task, []).append(key)
    for found in others.values():
        # The largest after the well-known: errors of 0 to 1 are flat lines beside percentages.
        found.sort(key=lambda key: (names[key] not in _FIRST, -np.nan_to_num(series[key][1][-1])))
        shown += found[:_MOST]
    return shown


def _draw_rate(axes: Axes, series: dict[str, Series]) -> None:
    tidy(axes, "learning rate")
    if "lr" in series:
        axes.plot(*series["lr"], color=COLORS[0], linewidth=1.8)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    _finish(axes)


def _finish(axes: Axes) -> None:
    """Add legend and limits, or a note if there is no value."""
    values = np.concatenate([[np.nan], *(line.get_ydata() for line in axes.lines)])
    values = values[np.isfinite(values)]
    if not len(values):
        while axes.lines:
            axes.lines[0].remove()
        axes.set_axis_off()
        place: Any = {"ha": "center", "va": "center", "transform": axes.transAxes}
        axes.text(0.5, 0.5, "nothing measured yet", color=FAINT, **place)
        return
    axes.set_xlabel("iteration")
    if values.min() >= 0:
        axes.set_ylim(0, 1.08 * values.max() + 1e-12)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9)


def _cut_off_outliers(axes: Axes, values: np.ndarray) -> None:
    """Limit the axis: the huge first losses must not flatten the rest."""
    finite = values[np.isfinite(values)]
    if len(finite) > 20 and finite.max() > 2 * np.quantile(finite, 0.98) > 0:
        axes.set_ylim(top=1.5 * np.quantile(finite, 0.98))


def smoothed(values: np.ndarray) -> np.ndarray:
    """Smooth by the mean over a centred window of 1/20 of the series, ignoring NaN."""
    radius = max(1, len(values) // 40)
    known = np.isfinite(values)
    kernel = np.ones(2 * radius + 1)
    total = np.convolve(np.where(known, values, 0.0), kernel)[radius:-radius]
    count = np.convolve(known, kernel)[radius:-radius]
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)
