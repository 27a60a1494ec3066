"""Sections of the run page about pixels: panoptic and semantic segmentation, the worst images."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from d2ext.data.mask_validity import invalid_run_lengths
from d2ext.data.segment_maps import position_map, read_segment_ids
from d2ext.errors import DataError
from d2ext.evaluation.panoptic_evaluator import RESULTS
from d2ext.files import read_json
from d2ext.pages.page import Page
from d2ext.pages.run_page import register_results_section
from d2ext.visualization.drawing import Color, color_of
from d2ext.visualization.overlay import overlay_segments
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.detection_utils import read_image

_WORST = 12  # images
_GAP = 6  # pixels between annotation and prediction
_NO_NAMES: dict[str, Any] = {}  # colours by the number of a class alone


def add_panoptic(page: Page, name: str, path: Path) -> None:
    """Add PQ per class and the images with the lowest PQ, annotation beside prediction."""
    results = read_json(path)
    records = {record["file_name"]: record for record in DatasetCatalog.get(name)}
    page.heading(f"Panoptic segmentation on {name}")
    head = ("class", "", "PQ", "SQ", "RQ", "matched", "extra", "missed")
    page.table(head, [_panoptic_row(row) for row in results["classes"]])
    worst = [item for item in results["worst"] if item["file_name"] in records]
    if worst:
        _add_legend(page, "lowest PQ")
        pictures = (_panoptic_picture(item, records[item["file_name"]], path) for item in worst)
        page.pictures(pictures, cell="24rem")


def _panoptic_row(row: Mapping[str, Any]) -> tuple[Any, ...]:
    numbers = ["-" if row[key] is None else f"{row[key]:.1f}" for key in ("PQ", "SQ", "RQ")]
    kind = "thing" if row["isthing"] else "stuff"
    return (row["name"], kind, *numbers, row["matched"], row["extra"], row["missed"])


def _panoptic_picture(
    item: Mapping[str, Any], record: Mapping[str, Any], path: Path
) -> tuple[np.ndarray, str]:
    sides = (
        (read_segment_ids(record["pan_seg_file_name"]), record["segments_info"]),
        (read_segment_ids(path.parent / item["segment_map"]), item["segments_info"]),
    )
    maps = [(position_map(ids, segments), _segment_colors(segments)) for ids, segments in sides]
    caption = f"{Path(record['file_name']).name}: PQ {100 * item['quality']:.1f}"
    return _side_by_side(record["file_name"], maps), caption


def _segment_colors(segments: Sequence[Mapping[str, Any]]) -> dict[int, Color]:
    return {
        position: color_of(segment["category_id"], _NO_NAMES)
        for position, segment in enumerate(segments, start=1)
    }


def add_semantic(page: Page, name: str, path: Path) -> None:
    """Add the images with the fewest right pixels, annotation beside prediction."""
    metadata = MetadataCatalog.get(name)
    records = [record for record in DatasetCatalog.get(name) if "sem_seg_file_name" in record]
    found = _label_maps(path)
    ignore = metadata.get("ignore_label", 255)
    shares = {
        record["file_name"]: _right_share(record, found[record["file_name"]], ignore)
        for record in records
        if record["file_name"] in found
    }
    worst = sorted(shares, key=lambda file: shares[file])[:_WORST]
    if not worst:
        return
    page.heading(f"Semantic segmentation on {name}")
    _add_legend(page, "fewest right pixels")
    by_name = {record["file_name"]: record for record in records}
    colors = {n: color_of(n, _NO_NAMES) for n in range(len(metadata.stuff_classes))}
    page.pictures(_semantic_pictures(worst, by_name, found, shares, colors), cell="24rem")


def _semantic_pictures(
    files: Iterable[str],
    records: Mapping[str, Mapping[str, Any]],
    found: Mapping[str, NDArray],
    shares: Mapping[str, float],
    colors: Mapping[int, Color],
) -> Iterator[tuple[np.ndarray, str]]:
    for file in files:
        labels = read_image(records[file]["sem_seg_file_name"], "L").squeeze(2)
        maps = [(labels, colors), (found[file], colors)]
        caption = f"{Path(file).name}: {shares[file]:.1%} of the pixels right"
        yield _side_by_side(file, maps), caption


def _label_maps(path: Path) -> dict[str, NDArray[np.int16]]:
    """Return (H, W) classes by file name from what `SemSegEvaluator` writes; -1 for none."""
    by_file: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for item in read_json(path):
        by_file[item["file_name"]].append(item)
    found = {}
    for file, items in by_file.items():
        height, width = items[0]["segmentation"]["size"]
        labels = np.full((height, width), -1, dtype=np.int16)
        for item in items:
            if invalid_run_lengths(item["segmentation"], width, height):
                raise DataError(f"{path}: a mask of {file} is broken. Evaluate the model again.")
            labels[coco_mask.decode(item["segmentation"]).astype(bool)] = item["category_id"]
        found[file] = labels
    return found


def _right_share(record: Mapping[str, Any], found: NDArray[np.int16], ignore: int) -> float:
    """Return the share of an image's annotated pixels with the right class; 1 without any."""
    labels = read_image(record["sem_seg_file_name"], "L").squeeze(2)
    known = labels != ignore
    return float((labels == found)[known].mean()) if known.any() else 1.0


def _add_legend(page: Page, what: str) -> None:
    page.heading(f"The worst images, {what}", 3)
    page.text("On the left the annotation, on the right the prediction.", "faint")


def _side_by_side(
    file: str, maps: Sequence[tuple[NDArray[np.integer], Mapping[int, Color]]]
) -> np.ndarray:
    image = read_image(file, format="RGB")
    left, right = (overlay_segments(image, segments, colors) for segments, colors in maps)
    gap = np.full((left.shape[0], _GAP, 3), 255, dtype=np.uint8)
    return np.concatenate((left, gap, right), axis=1)


register_results_section(RESULTS, add_panoptic)
register_results_section("sem_seg_predictions.json", add_semantic)
