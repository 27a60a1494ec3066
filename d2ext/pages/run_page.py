"""HTML page about a run: curves, speed, AP per class, confusion matrix, mistakes."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from d2ext.config.load import load_saved_config
from d2ext.data import register_datasets
from d2ext.data.detection_files import read_detections, sizes_by_id
from d2ext.data.image_reading import read_image
from d2ext.errors import DataError
from d2ext.evaluation.confusion import IOU, DetectionMatch, confusion_matrix, match_detections
from d2ext.evaluation.precision_recall import Precision, measure
from d2ext.files import broken_results, check_output_file, read_regular
from d2ext.pages import charts
from d2ext.pages.crops import crop
from d2ext.pages.page import Page
from d2ext.registry import ExtensionRegistry
from d2ext.visualization.curves import read_metrics, smoothed
from d2ext.visualization.drawing import Mark, color_of, label_of
from d2ext.visualization.marks import marks_of_annotations
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

_MISTAKES = 18  # pictures per kind of mistake
_GREY = (60, 60, 66)
_CURVES = 8  # classes per chart of curves
_CONFUSED = 30  # classes in the matrix; of more, those most often confused are shown

AddSection = Callable[[Page, str, Path], None]

_SECTIONS: ExtensionRegistry[str, AddSection] = ExtensionRegistry("section of the run page")


def register_results_section(file_name: str, add: AddSection) -> None:
    """Register how `tools/report.py` shows a file of evaluation results.

    A project calls it when it is imported. Sections follow in the order of registration.

    Args:
        file_name: in the evaluator's folder, e.g. "coco_instances_results.json".
        add: called with the page, the name of the data set and the path of the results; it adds
            headings, texts, tables, charts and pictures to the page.
    Raises:
        ValueError: the file name is taken.
    """
    _SECTIONS.register(file_name, add)


def write_run_page(folder: Path, path: Path) -> None:
    """Write the page about the run in `folder`.

    Raises:
        DataError: there is no run in the folder, or its data set is missing.
        OutputError: the page cannot be written.
    """
    config = folder / "config.yaml"
    if not config.is_file():
        raise DataError(
            f"{folder}: no config.yaml, so no run of tools/train_net.py. Name its OUTPUT_DIR."
        )
    check_output_file(path, "--out")
    cfg = load_saved_config(config)
    register_datasets(cfg)
    metrics = folder / "metrics.json"
    series = read_metrics(metrics) if metrics.is_file() else {}
    page = Page(f"Run in {folder.resolve().name}")
    _add_head(page, folder, cfg)
    _add_speed(page, folder, cfg, series)
    _add_curves(page, series, cfg.TEST.BEST_METRIC)
    for name in cfg.DATASETS.TEST:
        for file_name in _SECTIONS:
            results = folder / "inference" / name / file_name
            if results.is_file():
                with naming_results(results):
                    _SECTIONS.get(file_name, "results")(page, name, results)
    page.write(path)


@contextmanager
def naming_results(path: Path) -> Iterator[None]:
    """Name the file of results where its JSON has other values than an evaluation writes.

    Raises:
        OutputError: in place of errors of keys, types and values.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise broken_results(path, f"{type(error).__name__}: {error}") from error


def _add_head(page: Page, folder: Path, cfg: CfgNode) -> None:
    said = [line.partition("INFO: ")[2] for line in _log(folder).splitlines()]
    for start in ("command: ", "d2ext "):
        found = [line.removeprefix("command: ") for line in said if line.startswith(start)]
        if found:
            page.code(found[-1])
    sets = (
        f"trained on {', '.join(cfg.DATASETS.TRAIN)}, evaluated on {', '.join(cfg.DATASETS.TEST)}"
    )
    page.text(f"{cfg.MODEL.META_ARCHITECTURE} on {cfg.MODEL.BACKBONE.NAME}; {sets}.")


def _add_speed(page: Page, folder: Path, cfg: CfgNode, series: charts.Series) -> None:
    rows = []
    if "total_loss" in series:
        rows.append(("iterations", f"{int(series['total_loss'][0][-1]) + 1:,}"))
    if "time" in series:
        seconds = float(np.median(series["time"][1]))
        images = cfg.SOLVER.IMS_PER_BATCH * cfg.SOLVER.ACCUMULATE
        rows.append(("time of an iteration", f"{seconds:.3f} s, {images} images"))
        rows.append(("images in a second", f"{images / seconds:.1f}"))
    if "data_time" in series:
        rows.append(("of it waiting for data", f"{float(np.median(series['data_time'][1])):.3f} s"))
    if "max_memory_mb" in series:
        rows.append(("most memory", f"{series['max_memory_mb'][1].max() / 1024:.2f} GiB"))
    rows += [("evaluation, seconds per image", value) for value in _inference_time(folder)]
    if rows:
        page.heading("Speed and memory")
        page.table(("", ""), rows)


def _inference_time(folder: Path) -> list[str]:
    """Return the seconds per image of the last evaluation that Detectron2 logged, if any."""
    pattern = r"Total inference pure compute time: .*?\(([\d.]+) s / iter"
    return re.findall(pattern, _log(folder))[-1:]


def _log(folder: Path) -> str:
    """Return the text of the run's log; "" where there is none."""
    log = folder / "log.txt"
    return read_regular(log).decode("utf-8", "replace") if log.is_file() else ""


def _add_curves(page: Page, series: charts.Series, best_metric: str) -> None:
    drawn = [(charts.lines(*chart), chart[0]) for chart in _curves(series, best_metric)]
    if drawn:
        page.heading("Curves")
        page.charts(drawn)


def _curves(series: charts.Series, best_metric: str) -> Iterator[tuple[str, str, dict]]:
    """Yield title, label and series of each chart that has values.

    Args:
        best_metric: a metric that is shown besides the known ones, such as "nuscenes/NDS".
    """
    losses = {n: (x, smoothed(y)) for n, (x, y) in series.items() if n == "total_loss"}
    losses |= {n: s for n, s in series.items() if n == "val/total_loss"}
    terms = {
        n: (x, smoothed(y))
        for n, (x, y) in series.items()
        if "loss" in n and n != "total_loss" and "/" not in n
    }
    scores: dict[str, dict[str, Any]] = {}
    for name, values in series.items():
        task, _, metric = name.rpartition("/")
        known = metric in ("AP", "AP50", "AP75", "mIoU", "mACC", "PQ", "SQ", "RQ")
        if known or name == best_metric or name.endswith(f"/{best_metric}"):
            scores.setdefault(task.rpartition("/")[2], {})[metric] = values
    rate = {n: s for n, s in series.items() if n == "lr"}
    named = {"Total loss": losses, "Terms of the loss": terms}
    named |= {f"Evaluation, {task}": values for task, values in scores.items()}
    named["Learning rate"] = rate
    yield from ((title, "iteration", found) for title, found in named.items() if found)


def _add_detections(page: Page, name: str, path: Path) -> None:
    """Add AP, confusion matrix and mistakes of detections in COCO's results format."""
    records, metadata = DatasetCatalog.get(name), MetadataCatalog.get(name)
    results = read_detections(path, sizes_by_id(records))
    page.heading(f"Detections on {name}")
    page.text(f"{len(records)} images, {len(results)} detections.", "faint")
    if not results:
        page.text("The model found nothing at all.", "warning")
        return
    if len(results[0]["bbox"]) != 4:
        page.text("Rotated boxes: see the table of the log for their AP.", "faint")
        return
    names = list(metadata.thing_classes)
    for task in ("bbox", "segm"):
        if task == "bbox" or "segmentation" in results[0]:
            _add_precision(page, measure(metadata.json_file, results, task), names, task)
    matches, threshold = match_detections(records, results, metadata)
    _add_confusion(page, matches, names, threshold)
    _add_mistakes(page, matches, records, metadata)


def _add_precision(page: Page, found: Precision, names: Sequence[str], task: str) -> None:
    kind = "boxes" if task == "bbox" else "masks"
    page.heading(f"AP by class and size, {kind}", 3)
    table = found.table()
    rows = [(name, *map(_percent, row)) for name, row in zip(names, table, strict=True)]
    with np.errstate(all="ignore"):
        known = np.isfinite(table)
        means = np.where(known, table, 0).sum(0) / known.sum(0)
    rows.append(("mean", *map(_percent, means)))
    page.table(("class", "AP", "AP50", "AP75", "small", "medium", "large"), rows)
    order = np.argsort(np.nan_to_num(table[:, 0], nan=-1))
    drawn = []
    for start in range(0, min(len(order), 4 * _CURVES), _CURVES):
        part = order[start : start + _CURVES]
        curves = {names[i]: (found.recalls, found.curve(int(i))) for i in part}
        title = "Precision by recall, IoU 0.50"
        drawn.append((charts.lines(title, "recall", curves), title))
    page.charts(drawn)


def _percent(value: float) -> str:
    return f"{value:.1f}" if np.isfinite(value) else "-"


def _add_confusion(
    page: Page, matches: Sequence[DetectionMatch], names: Sequence[str], threshold: float
) -> None:
    page.heading("Confusion matrix", 3)
    page.text(
        f"Rows: what is there; columns: what was found. Detections with a score of {threshold:.2f} "
        f"or more, as many as there are objects; by falling score each claims the free object that "
        f"it overlaps most, of any class, from an IoU of {IOU} on.",
        "faint",
    )
    matrix = confusion_matrix(matches, len(names))
    shown = _most_confused(matrix)
    if len(shown) < len(names):
        page.text(f"Shown are the {len(shown)} classes that are confused most.", "faint")
    cells = [*shown, len(names)]
    head = ("", *(names[i] for i in shown), "missed")
    labels = [*(names[i] for i in shown), "nothing there"]
    rows = [
        (label, *(matrix[row, column] or "" for column in cells))
        for label, row in zip(labels, cells, strict=True)
    ]
    page.table(head, rows)


def _most_confused(matrix: np.ndarray) -> list[int]:
    wrong = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * np.diag(matrix)
    order = np.argsort(-wrong[:-1], kind="stable")[:_CONFUSED]
    return sorted(order.tolist())


def _add_mistakes(
    page: Page,
    matches: Sequence[DetectionMatch],
    records: Sequence[dict[str, Any]],
    metadata: Any,
) -> None:
    wrong = sorted((m for m in matches if not m.correct), key=lambda m: -m.score)
    groups = {
        "Most confident, and nothing is there": [m for m in wrong if m.truth is None],
        "Most confident, and of another class": [
            m for m in wrong if m.truth is not None and m.found is not None
        ],
        "Missed, the largest": sorted((m for m in wrong if m.found is None), key=_area)[::-1],
    }
    for title, found in groups.items():
        if found:
            page.heading(f"{title}: {len(found)}", 3)
            chosen = found[:_MISTAKES]
            page.pictures(_picture(m, records[m.image], metadata) for m in chosen)


def _picture(
    match: DetectionMatch, record: Mapping[str, Any], metadata: Any
) -> tuple[np.ndarray, str]:
    """Draw a mistake in the colour of its class, with the ground truth around it in grey."""
    image = read_image(record["file_name"], format="RGB")
    truth = [Mark(mark.box, _GREY, "") for mark in marks_of_annotations(record, metadata, False)]
    class_id = match.truth if match.found is None else match.found
    assert class_id is not None  # a match has at least one of the two
    text = label_of(class_id, metadata)
    if match.found is not None:
        text += f" {match.score:.2f}"
    mark = Mark(match.box, color_of(class_id, metadata), text, score=2.0)
    return crop(image, match.box, [mark, *truth]), f"{text}: {Path(record['file_name']).name}"


def _area(match: DetectionMatch) -> float:
    x0, y0, x1, y1 = match.box
    return (x1 - x0) * (y1 - y0)


register_results_section("coco_instances_results.json", _add_detections)
