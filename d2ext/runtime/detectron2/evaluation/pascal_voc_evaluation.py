"""Pascal VOC's average precision of boxes.

Source: Everingham et al. 2010, "The Pascal Visual Object Classes (VOC) Challenge"; 2007
interpolates the precision at eleven recalls, later years take the area under the curve.
"""

import logging
import os
import tempfile
import xml.etree.ElementTree as ET
from collections import OrderedDict, defaultdict
from functools import cache
from typing import Any

import numpy as np
import torch

from detectron2.data import MetadataCatalog
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

from .evaluator import DatasetEvaluator

__all__ = ["PascalVOCDetectionEvaluator", "parse_rec", "voc_ap", "voc_eval"]

logger = logging.getLogger(__name__)

_THRESHOLDS = range(50, 100, 5)  # IoU in percent


class PascalVOCDetectionEvaluator(DatasetEvaluator):
    """AP in percent by the rules of Pascal VOC.

    `evaluate` returns {"bbox": {"AP": ..., "AP50": ..., "AP75": ...}}, and None in processes other
    than the first.

    Args:
        dataset_name: registered by `register_pascal_voc`.
    """

    def __init__(self, dataset_name: str) -> None:
        meta = MetadataCatalog.get(dataset_name)
        self._dataset_name = dataset_name
        folder = PathManager.get_local_path(os.path.join(meta.dirname, "Annotations/"))
        self._anno_file_template = os.path.join(folder, "{}.xml")
        self._image_set_path = os.path.join(meta.dirname, "ImageSets", "Main", f"{meta.split}.txt")
        self._class_names = meta.thing_classes
        if meta.year not in (2007, 2012):
            raise AssertionError(f"{dataset_name}: the year is 2007 or 2012, got {meta.year}.")
        self._is_2007 = meta.year == 2007
        self._cpu_device = torch.device("cpu")
        self._logger = logger
        self.reset()

    def reset(self) -> None:
        self._predictions: dict[int, list[str]] = defaultdict(
            list
        )  # class -> lines of VOC's format

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Add the predictions of a batch: "image_id" in the inputs, "instances" in the outputs."""
        for image, output in zip(inputs, outputs, strict=True):
            instances = output["instances"].to(self._cpu_device)
            rows = zip(
                instances.pred_boxes.tensor.tolist(),
                instances.scores.tolist(),
                instances.pred_classes.tolist(),
                strict=True,
            )
            for (left, top, right, bottom), score, label in rows:
                # VOC counts pixels from 1 and includes the last one.
                corners = f"{left + 1:.1f} {top + 1:.1f} {right:.1f} {bottom:.1f}"
                self._predictions[label].append(f"{image['image_id']} {score:.3f} {corners}")

    def evaluate(self) -> OrderedDict | None:
        """Compute the metrics of what was processed."""
        gathered = comm.gather(self._predictions, dst=0)
        if not comm.is_main_process():
            return None
        lines: dict[int, list[str]] = defaultdict(list)
        for predictions in gathered:
            for label, found in predictions.items():
                lines[label].extend(found)
        self._logger.info(
            "Evaluating %s using %d metric.", self._dataset_name, 2007 if self._is_2007 else 2012
        )
        aps = self._average_precisions(lines)
        mean = {threshold: float(np.mean(values)) for threshold, values in aps.items()}
        metrics = {"AP": float(np.mean(list(mean.values()))), "AP50": mean[50], "AP75": mean[75]}
        return OrderedDict({"bbox": metrics})

    def _average_precisions(self, lines: dict[int, list[str]]) -> dict[int, list[float]]:
        """Compute, by IoU threshold in percent, the AP in percent of each class."""
        aps: dict[int, list[float]] = defaultdict(list)
        with tempfile.TemporaryDirectory(prefix="pascal_voc_eval_") as folder:
            template = os.path.join(folder, "{}.txt")
            for label, name in enumerate(self._class_names):
                with open(template.format(name), "w", encoding="utf-8") as file:
                    file.write("\n".join(lines.get(label, [""])))
                for threshold in _THRESHOLDS:
                    ap = voc_eval(
                        template,
                        self._anno_file_template,
                        self._image_set_path,
                        name,
                        ovthresh=threshold / 100.0,
                        use_07_metric=self._is_2007,
                    )[2]
                    aps[threshold].append(ap * 100)
        return aps


@cache
def parse_rec(filename: str) -> list[dict[str, Any]]:
    """Parse the objects of an annotation file: name, flags and corners, counted from 1 as there."""
    with PathManager.open(filename) as file:
        root = ET.parse(file).getroot()
    return [
        {
            "name": _text(found, "name"),
            "pose": found.findtext("pose"),
            "truncated": int(found.findtext("truncated") or 0),
            "difficult": int(_text(found, "difficult")),
            "bbox": [int(_text(found, f"bndbox/{s}")) for s in ("xmin", "ymin", "xmax", "ymax")],
        }
        for found in root.findall("object")
    ]


def _text(found: ET.Element, path: str) -> str:
    text = found.findtext(path)
    if text is None:
        raise ValueError(f"An annotation of Pascal VOC lacks {path}.")
    return text


def voc_ap(rec: np.ndarray, prec: np.ndarray, use_07_metric: bool = False) -> float:
    """Compute the average precision of a precision-recall curve.

    Args:
        rec: (N,) recall, ascending.
        prec: (N,) precision.
        use_07_metric: average at recalls 0, 0.1, ..., 1; otherwise the area under the curve.
    """
    if use_07_metric:
        reached = (prec[rec >= level] for level in np.arange(0.0, 1.1, 0.1))
        return sum(float(found.max()) if len(found) else 0.0 for found in reached) / 11.0
    # Precision made monotone: at each recall the best precision at this recall or above.
    envelope = np.maximum.accumulate(np.append(prec, 0.0)[::-1])[::-1]
    steps = np.diff(np.concatenate(([0.0], rec, [1.0])))
    return float(np.sum(steps * envelope))


def voc_eval(
    detpath: str,
    annopath: str,
    imagesetfile: str,
    classname: str,
    ovthresh: float = 0.5,
    use_07_metric: bool = False,
) -> tuple[Any, Any, float]:
    """Compute recall and precision after each detection, best score first, and AP.

    Args:
        detpath: `detpath.format(classname)` is the file of detections; each line holds image,
            score and corners.
        annopath: `annopath.format(image)` is an annotation file.
        imagesetfile: a file with one image per line.
        classname: the class to evaluate.
        ovthresh: minimum IoU of a match.
        use_07_metric: see `voc_ap`.
    """
    with PathManager.open(imagesetfile) as file:
        images = [line.strip() for line in file]
    truth = {image: _Objects(parse_rec(annopath.format(image)), classname) for image in images}
    with open(detpath.format(classname), encoding="utf-8") as file:
        rows = [line.split() for line in file if line.strip()]
    rows.sort(key=lambda row: -float(row[1]))
    hits, extras = np.zeros(len(rows)), np.zeros(len(rows))
    for index, (image, _, *corners) in enumerate(rows):
        outcome = truth[image].match(np.array(corners, dtype=float), ovthresh)
        hits[index], extras[index] = outcome == "hit", outcome == "extra"
    hits, extras = hits.cumsum(), extras.cumsum()
    objects = sum(int((~found.difficult).sum()) for found in truth.values())
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = hits / float(objects)
    precision = hits / np.maximum(hits + extras, np.finfo(np.float64).eps)
    return recall, precision, voc_ap(recall, precision, use_07_metric)


class _Objects:
    """The objects of a class in an image, and which of them have been detected."""

    def __init__(self, objects: list[dict[str, Any]], classname: str) -> None:
        own = [found for found in objects if found["name"] == classname]
        self.boxes = np.array([found["bbox"] for found in own], dtype=float).reshape(-1, 4)
        self.difficult = np.array([found["difficult"] for found in own]).astype(bool)
        self.found = np.zeros(len(own), dtype=bool)

    def match(self, box: np.ndarray, threshold: float) -> str:
        """Match a detection: "hit", "extra", or "ignored" for a difficult object."""
        overlaps = self._overlaps(box)
        # VOC requires more than the threshold, not at least.
        if not len(overlaps) or overlaps.max() <= threshold:
            return "extra"
        best = overlaps.argmax()
        if self.difficult[best]:
            return "ignored"
        if self.found[best]:
            return "extra"
        self.found[best] = True
        return "hit"

    def _overlaps(self, box: np.ndarray) -> np.ndarray:
        """Compute (N,) IoU; a side includes its last pixel."""
        low, high = np.maximum(self.boxes[:, :2], box[:2]), np.minimum(self.boxes[:, 2:], box[2:])
        shared = (high - low + 1.0).clip(min=0).prod(axis=1)
        areas = (self.boxes[:, 2:] - self.boxes[:, :2] + 1.0).prod(axis=1)
        return shared / (areas + (box[2:] - box[:2] + 1.0).prod() - shared)
