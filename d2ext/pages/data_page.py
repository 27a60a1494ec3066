"""HTML page about a data set: counts, examples per class, and its faults."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from d2ext.data.augmentation.annotated_image import upright_box
from d2ext.data.checks.check import check_splits
from d2ext.data.checks.report import Report
from d2ext.data.formats import DatasetSplit
from d2ext.data.formats.dataset_split import PIXEL_TASKS
from d2ext.data.formats.image_files import UNREADABLE_IMAGE
from d2ext.data.image_reading import read_8_bit_image, read_image
from d2ext.data.issues import Issue
from d2ext.pages import charts
from d2ext.pages.crops import crop, whole
from d2ext.pages.page import Page
from d2ext.visualization.drawing import Color, Mark, color_of
from d2ext.visualization.marks import marks_of_annotations

NAME = "index.html"
_EXAMPLES = 6  # pictures per class
_CLASSES = 60  # classes with pictures
_BARS = 60  # classes in the chart of counts
_ISSUES = 6  # pictures per kind of issue
_LINES = 12  # places per kind of issue
_HEAT = 48  # cells per side of the heat map of positions


def write_data_page(
    sources: Mapping[str, DatasetSplit], path: Path, *, progress: bool = False
) -> None:
    """Write the page about the splits of a data set.

    Args:
        sources: by split.
        path: of the page.
        progress: show a progress bar while images are checked.
    Raises:
        OutputError: the page cannot be written.
    """
    report = check_splits(sources, progress=progress)
    first = next(iter(sources.values()))
    page = Page(f"{first.format} data set {first.path.resolve().name}")
    _add_overview(page, sources, report)
    if first.task in PIXEL_TASKS:
        _add_labelled(page, sources)
    else:
        _add_objects(page, sources)
        _add_classes(page, sources)
    _add_issues(page, report)
    page.write(path)


def _add_overview(page: Page, sources: Mapping[str, DatasetSplit], report: Report) -> None:
    rows = [
        (name, len(s.images), s.num_annotations or "", len(s.classes), str(s.path))
        for name, s in sources.items()
    ]
    page.table(("split", "images", "objects", "classes", "from"), rows)
    page.text(report.summary(), "note" if report.clean else "warning")
    for source in sources.values():
        for note in source.notes:
            page.text(note, "faint")


def _objects(source: DatasetSplit) -> list[tuple[dict[str, Any], dict[str, Any], np.ndarray]]:
    """Return (image, annotation, XYXY) of every object with a finite box; crowds are left out."""
    found = []
    for image in source.images:
        for annotation in (a for a in image["annotations"] if "bbox" in a):
            box = upright_box(annotation)
            if np.isfinite(box).all() and not annotation.get("iscrowd", 0):
                found.append((image, annotation, box))
    return found


def _add_objects(page: Page, sources: Mapping[str, DatasetSplit]) -> None:
    page.heading("Objects")
    boxes = {name: _boxes(source) for name, source in sources.items()}
    sides = {name: (b[:, 2:4] - b[:, :2]).clip(1e-3) for name, b in boxes.items()}
    sizes = {name: np.sqrt(s.prod(axis=1)) for name, s in sides.items()}
    shapes = {name: s[:, 0] / s[:, 1] for name, s in sides.items()}
    everywhere = np.concatenate(list(boxes.values()))
    drawn = [
        (_class_chart(sources), "objects of each class"),
        (charts.histogram("Sizes", "square root of the area, pixels", sizes), "sizes"),
        (charts.histogram("Shapes", "width by height", shapes), "width by height"),
        (charts.heat("Places", _coverage(everywhere)), "where in the image objects are"),
    ]
    page.charts(drawn)


def _boxes(source: DatasetSplit) -> np.ndarray:
    """Return (N, 6): XYXY in pixels, then width and height of the image."""
    rows = [[*box, image["width"], image["height"]] for image, _, box in _objects(source)]
    return np.array(rows, dtype=float).reshape(-1, 6)


def _class_chart(sources: Mapping[str, DatasetSplit]) -> bytes:
    """Draw the number of objects per class, the most frequent first."""
    names = next(iter(sources.values())).classes
    counts = {name: _class_counts(source, names) for name, source in sources.items()}
    total = np.sum(list(counts.values()), axis=0)
    order = np.argsort(-total, kind="stable")[:_BARS]
    title = "Objects of each class" if len(names) <= _BARS else f"The {_BARS} most frequent classes"
    return charts.bars(title, [names[i] for i in order], {n: c[order] for n, c in counts.items()})


def _class_counts(source: DatasetSplit, names: Sequence[str]) -> np.ndarray:
    index = {name: number for number, name in enumerate(names)}
    counts = np.zeros(len(names), dtype=int)
    for image in source.images:
        for annotation in image["annotations"]:
            number = index.get(source.classes[annotation["category_id"]])
            if number is not None:
                counts[number] += 1
    return counts


def _coverage(boxes: np.ndarray) -> np.ndarray:
    """Return (cells, cells): how many objects cover each part of their image."""
    counts = np.zeros((_HEAT, _HEAT), dtype=int)
    size = np.concatenate([boxes[:, 4:], boxes[:, 4:]], axis=1).clip(1)
    for x0, y0, x1, y1 in (boxes[:, :4] / size * _HEAT).clip(0, _HEAT):
        counts[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))] += 1
    return counts


def _add_classes(page: Page, sources: Mapping[str, DatasetSplit]) -> None:
    """Add examples of every class, spread over the first split."""
    page.heading("Examples of every class")
    source = next(iter(sources.values()))
    objects = _objects(source)
    names = {"thing_classes": source.classes}
    for number, name in list(enumerate(source.classes))[:_CLASSES]:
        page.heading(name, 3)
        mine = [one for one in objects if one[1]["category_id"] == number]
        step = max(1, len(mine) // _EXAMPLES)
        shown = [_example(*one, names) for one in mine[::step][:_EXAMPLES]]
        if any(shown):
            page.pictures(found for found in shown if found)
        else:
            page.text("no object of this class can be shown", "warning")
    if len(source.classes) > _CLASSES:
        page.text(f"and {len(source.classes) - _CLASSES} more classes", "faint")


def _example(
    image: dict[str, Any], annotation: dict[str, Any], box: np.ndarray, names: dict
) -> tuple[np.ndarray, str] | None:
    pixels = _read(image["file_name"])
    if pixels is None:
        return None
    one = {"height": pixels.shape[0], "width": pixels.shape[1]}
    marks = marks_of_annotations({**one, "annotations": [annotation]}, names)
    return crop(pixels, box.tolist(), marks), Path(image["file_name"]).name


def _add_labelled(page: Page, sources: Mapping[str, DatasetSplit]) -> None:
    """Add images whose pixels have the colours of their classes."""
    for name, source in sources.items():
        page.heading(f"Examples of {name}")
        names = {"thing_classes": source.classes}
        page.pictures(
            [
                (whole(_patch(color_of(i, names)), []), text)
                for i, text in enumerate(source.classes)
            ],
            cell="4rem",
        )
        step = max(1, len(source.images) // _EXAMPLES)
        shown = (_tinted(image, source) for image in source.images[::step][:_EXAMPLES])
        page.pictures((found for found in shown if found), cell="20rem")


def _patch(color: Color) -> np.ndarray:
    return np.full((24, 24, 3), color, np.uint8)


def _tinted(image: dict[str, Any], source: DatasetSplit) -> tuple[np.ndarray, str] | None:
    labels = image.get("sem_seg_file_name")
    pixels = _read(image["file_name"])
    if pixels is None or labels is None:
        return None
    classes = read_8_bit_image(labels, format="L")[:, :, 0]
    names = {"thing_classes": source.classes}
    box = (0, 0, pixels.shape[1], pixels.shape[0])
    marks = [
        Mark(box, color_of(number, names), "", mask=classes == number)
        for number in np.unique(classes)
        if number < len(source.classes) and classes.shape == pixels.shape[:2]
    ]
    return whole(pixels, marks), Path(image["file_name"]).name


def _add_issues(page: Page, report: Report) -> None:
    page.heading("Issues")
    if not report.issues:
        page.text("none found")
    for kind, issues in report.by_kind().items():
        page.heading(f"{kind.code}: {len(issues)}", 3)
        page.text(f"{kind.severity}: {kind}", kind.severity)
        page.items(f"{issue.where}: {issue.detail}" for issue in issues[:_LINES])
        if len(issues) > _LINES:
            page.text(f"and {len(issues) - _LINES} more", "faint")
        shown = [found for found in map(_issue_picture, issues[: 3 * _ISSUES]) if found]
        if shown:
            page.pictures(shown[:_ISSUES])


def _issue_picture(issue: Issue) -> tuple[np.ndarray, str] | None:
    pixels = _read(str(issue.image)) if issue.image else None
    if pixels is None:
        return None
    caption = f"{Path(str(issue.image)).name}: {issue.detail}"
    if issue.box is None or not np.isfinite(issue.box).all():
        return whole(pixels, [], 240), caption
    mark = Mark(issue.box, color_of(0, {}), issue.code)
    return crop(pixels, issue.box, [mark]), caption


def _read(file_name: str) -> np.ndarray | None:
    """Read an image as (H, W, 3) RGB; None if it is unreadable, which the check reports."""
    try:
        return read_image(file_name, format="RGB")
    except UNREADABLE_IMAGE:
        return None
