"""The section of a run's page: NDS, AP and errors per class, precision by recall."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from d2ext.pages import register_results_section
from d2ext.pages.charts import lines
from d2ext.pages.page import Page
from d2ext.projects.detr3d.evaluation.evaluator import DETAILS, LOG_NAMES
from d2ext.projects.detr3d.evaluation.metric import ERROR_THRESHOLD, ERRORS, RECALLS, THRESHOLDS

CURVES = 5  # classes per chart
UNITS = dict(zip(ERRORS, ("m", "1 - IoU", "rad", "m/s", "1 - accuracy"), strict=True))


def add_metrics(page: Page, dataset: str, path: Path) -> None:
    """Add the numbers and curves of metrics_details.json to a page."""
    details = json.loads(path.read_text(encoding="utf-8"))
    page.heading(f"Boxes in space on {dataset}")
    score = details["summary"]
    page.text(f"NDS {score['NDS']:.1f}, mAP {score['mAP']:.1f}, at 2 m {score['mAP-2m']:.1f}.")
    limits = [f"AP at {limit:g} m" for limit in THRESHOLDS]
    page.heading("AP by class and distance", 3)
    page.table(("class", "AP", *limits), _precisions(details["label_aps"]))
    page.heading("Errors by class", 3)
    page.text(f"Of detections within {ERROR_THRESHOLD:g} m of their object.", "faint")
    errors = [f"{LOG_NAMES[name].removeprefix('m')}, {UNITS[name]}" for name in ERRORS]
    page.table(("class", *errors), _errors(details["label_tp_errors"], score))
    page.heading("Precision by recall", 3)
    page.charts(_curves(details["label_aps"], details["precision"]))


def _precisions(found: Mapping[str, Mapping[str, float]]) -> list[tuple[Any, ...]]:
    table = 100 * np.array([list(values.values()) for values in found.values()])
    table = np.concatenate((table.mean(axis=1, keepdims=True), table), axis=1)
    rows = [*zip(found, table, strict=True), ("mean", table.mean(axis=0))]
    return [(name, *(f"{value:.1f}" for value in row)) for name, row in rows]


def _errors(
    found: Mapping[str, Mapping[str, float | None]], score: Mapping[str, float]
) -> Iterator[Sequence[str]]:
    for name, values in found.items():
        yield name, *("-" if values[e] is None else f"{values[e]:.3f}" for e in ERRORS)
    yield "mean", *(f"{score[LOG_NAMES[error]]:.3f}" for error in ERRORS)


def _curves(
    precisions: Mapping[str, Mapping[str, float]],
    curves: Mapping[str, Mapping[str, Sequence[float]]],
) -> Iterator[tuple[bytes, str]]:
    """Yield charts of the curves at each distance, the classes with the least AP first."""
    order = sorted(curves, key=lambda name: np.mean(list(precisions[name].values())))
    for limit in THRESHOLDS:
        for start in range(0, len(order), CURVES):
            names = order[start : start + CURVES]
            series = {name: (RECALLS, np.array(curves[name][str(limit)])) for name in names}
            title = f"Precision by recall at {limit:g} m"
            yield lines(title, "recall", series), f"{title}: {', '.join(names)}"


register_results_section(DETAILS, add_metrics)
