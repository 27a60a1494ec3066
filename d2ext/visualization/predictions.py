"""Picture of predictions on validation images, next to their ground truth."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from d2ext.data.detection_files import read_detections, sizes_by_id
from d2ext.data.image_reading import read_image
from d2ext.files import replacing
from d2ext.visualization.drawing import Color, Mark, NamedClasses, color_of, draw, label_of
from d2ext.visualization.fonts import font_file
from d2ext.visualization.marks import marks_of_annotations, marks_of_results
from d2ext.visualization.results import register_results_picture
from detectron2.data import DatasetCatalog, MetadataCatalog

_WIDTH = 1960  # width of the picture, in pixels
_MARGIN = 24  # around a pair
_GAP = 10  # between the two sides of a pair
_CAPTION = 30  # height of the line above a pair
_HEADER = 90  # height of the title and the classes' colours
_PAPER, _INK, _FAINT = (250, 250, 248), (38, 38, 42), (120, 120, 126)


def save_predictions(
    dataset_name: str, results: str | Path, path: str | Path, count: int = 16
) -> None:
    """Draw images of a data set in pairs: ground truth on the left, predictions on the right.

    The images are spread evenly over the set and are the same each time. Predictions are drawn from
    the score on that as many reach as the whole set has objects, so that the picture is neither
    empty early in a training nor crowded at its end. Masks are drawn if the model predicts any.

    Args:
        dataset_name: a registered data set.
        results: its `coco_instances_results.json`, written by `COCOEvaluator`.
        path: .jpg or .png to write.
        count: maximum number of images.
    """
    records = DatasetCatalog.get(dataset_name)
    metadata = MetadataCatalog.get(dataset_name)
    found = read_detections(Path(results), sizes_by_id(records))
    threshold = score_threshold(found, sum(_num_objects(record) for record in records))
    shown = [records[i] for i in spread(len(records), count)]
    by_image = defaultdict(list)
    for item in found:
        if item["score"] >= threshold:
            by_image[item["image_id"]].append(item)
    masks = any("segmentation" in item for item in found)
    sheet = _Sheet([record["width"] / record["height"] for record in shown])
    for record in shown:
        truth = marks_of_annotations(record, metadata, masks)
        sheet.add(record, truth, by_image[record["image_id"]], metadata)
    title = (
        f"{dataset_name}: on the left the ground truth, on the right predictions with a score of "
        f"{threshold:.2f} or more"
    )
    with replacing(path) as temporary:
        sheet.picture(title, metadata).save(temporary, quality=90)


def spread(total: int, count: int) -> list[int]:
    """Return `count` indices spread evenly over `range(total)`; all if there are fewer."""
    count = min(total, count)
    return [(2 * i + 1) * total // (2 * count) for i in range(count)]


def score_threshold(results: Sequence[dict[str, Any]], num_objects: int) -> float:
    """Return the score that `num_objects` predictions reach; 0 if there are fewer."""
    scores = sorted((item["score"] for item in results), reverse=True)
    return scores[max(1, num_objects) - 1] if len(scores) >= max(1, num_objects) else 0.0


def _num_objects(record: dict[str, Any]) -> int:
    return sum(not item.get("iscrowd", 0) for item in record.get("annotations", ()))


class _Sheet:
    """Rows of image pairs below a title and a legend of the classes."""

    def __init__(self, aspects: Sequence[float]) -> None:
        # One wide pair fills a row, three tall ones do.
        typical = float(np.median(aspects)) if aspects else 1.0
        fitting = 1 if typical > 1.8 else 2 if typical > 0.8 else 3
        self.per_row = min(fitting, max(1, len(aspects)))
        self.cell = (_WIDTH - 2 * _MARGIN * self.per_row) // (2 * self.per_row) - _GAP // 2
        self.pairs: list[Image.Image] = []
        self.classes: set[int] = set()

    def add(
        self,
        record: dict[str, Any],
        truth: Sequence[Mark],
        results: Sequence[dict[str, Any]],
        metadata: NamedClasses,
    ) -> None:
        """Add an image twice: with its ground truth and with `results`."""
        image = read_image(record["file_name"], format="RGB")
        found = marks_of_results(results, metadata, record["height"], record["width"])
        scale = self.cell / max(image.shape[1], image.shape[0] / 1.5)
        sides = [Image.fromarray(draw(image, marks, scale)) for marks in (truth, found)]
        captions = (Path(record["file_name"]).name, f"{len(truth)} objects, {len(found)} found")
        self.pairs.append(self._pair(sides, captions))
        self.classes.update(item["category_id"] for item in record.get("annotations", ()))

    def picture(self, title: str, metadata: NamedClasses) -> Image.Image:
        """Compose the picture of all pairs."""
        rows = [self.pairs[i : i + self.per_row] for i in range(0, len(self.pairs), self.per_row)]
        heights = [max(pair.height for pair in row) + _MARGIN for row in rows]
        paper = Image.new("RGB", (_WIDTH, _HEADER + sum(heights)), _PAPER)
        pen = ImageDraw.Draw(paper)
        _write(pen, (_MARGIN, 30), title, 20, _INK)
        self._draw_legend(pen, metadata)
        top = _HEADER
        for row, height in zip(rows, heights, strict=True):
            for column, pair in enumerate(row):
                paper.paste(pair, (_MARGIN + column * (pair.width + 2 * _MARGIN), top))
            top += height
        return paper

    def _pair(self, sides: Sequence[Image.Image], captions: Sequence[str]) -> Image.Image:
        height = _CAPTION + sides[0].height
        paper = Image.new("RGB", (2 * self.cell + _GAP, height), _PAPER)
        pen = ImageDraw.Draw(paper)
        for i, (side, text, ink) in enumerate(zip(sides, captions, (_INK, _FAINT), strict=True)):
            left = i * (self.cell + _GAP)
            paper.paste(side, (left, _CAPTION))
            _write(pen, (left, _CAPTION / 2), _shortened(text, pen, self.cell), 15, ink)
        return paper

    def _draw_legend(self, pen: ImageDraw.ImageDraw, metadata: NamedClasses) -> None:
        """Draw the classes of the annotations shown, as many as fit into one line."""
        x, y = float(_MARGIN), 64
        for class_id in sorted(self.classes):
            name = label_of(class_id, metadata)
            font = ImageFont.truetype(font_file(name), 15)
            width = pen.textlength(name, font=font)
            if x + width + 60 > _WIDTH:
                _write(pen, (x, y), "…", 15, _FAINT)
                return
            pen.rectangle((x, y - 7, x + 14, y + 7), fill=color_of(class_id, metadata))
            _write(pen, (x + 21, y), name, 15, _INK)
            x += width + 45


def _write(
    pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, points: int, ink: Color
) -> None:
    font = ImageFont.truetype(font_file(text), points)
    pen.text(at, text, fill=ink, font=font, anchor="lm")


def _shortened(text: str, pen: ImageDraw.ImageDraw, width: int) -> str:
    """Drop the middle of `text` if it is longer than `width` pixels."""
    font = ImageFont.truetype(font_file(text), 15)
    shown, keep = text, len(text)
    while pen.textlength(shown, font=font) > width and keep > 2:
        keep -= 1
        shown = f"{text[: keep // 2]}…{text[len(text) - (keep - keep // 2) :]}"
    return shown


register_results_picture("coco_instances_results.json", save_predictions)
