"""Panoptic quality (PQ) on datasets in COCO's panoptic format."""

import io
import itertools
import json
import logging
import os
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from PIL import Image
from tabulate import tabulate

from detectron2.data import MetadataCatalog
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

from .evaluator import DatasetEvaluator
from .panoptic_quality import Quality, id2rgb, panoptic_quality, rgb2id

__all__ = ["COCOPanopticEvaluator"]

logger = logging.getLogger(__name__)


class COCOPanopticEvaluator(DatasetEvaluator):
    """PQ, SQ and RQ in percent over all categories, over things ("_th") and over stuff ("_st").

    `evaluate` returns {"panoptic_seg": {"PQ": ..., "SQ": ..., "RQ": ..., "PQ_th": ..., ...}}, and
    None in processes other than the first.

    Args:
        dataset_name: its metadata has "panoptic_json", "panoptic_root", the numbering of things and
            stuff, and "label_divisor" for predictions without segments.
        output_dir: folder for "predictions.json"; None writes nothing.
    """

    def __init__(self, dataset_name: str, output_dir: str | None = None) -> None:
        self._metadata = MetadataCatalog.get(dataset_name)
        things = self._metadata.thing_dataset_id_to_contiguous_id
        stuff = self._metadata.stuff_dataset_id_to_contiguous_id
        self._thing_contiguous_id_to_dataset_id = {label: own for own, label in things.items()}
        self._stuff_contiguous_id_to_dataset_id = {label: own for own, label in stuff.items()}
        self._output_dir = output_dir
        if output_dir is not None:
            PathManager.mkdirs(output_dir)
        self.reset()

    def reset(self) -> None:
        self._predictions: list[dict[str, Any]] = []

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Add the predictions of a batch.

        Args:
            inputs: dicts with "file_name" and "image_id".
            outputs: dicts with "panoptic_seg": (H, W) ids and the segments, dicts with "id",
                "category_id" and "isthing"; or None for segments, when an id is the category times
                the label divisor plus the object's number, and -1 is no segment.
        """
        for image, output in zip(inputs, outputs, strict=True):
            ids, segments = output["panoptic_seg"]
            ids = ids.cpu().numpy().astype(np.int64)
            if segments is None:
                segments = self._segments_of(ids)
                ids = ids + 1  # id 0 means "no segment" in COCO
            png = io.BytesIO()
            Image.fromarray(id2rgb(ids)).save(png, format="PNG")
            stem = os.path.splitext(os.path.basename(image["file_name"]))[0]
            self._predictions.append(
                {
                    "image_id": image["image_id"],
                    "file_name": f"{stem}.png",
                    "png_string": png.getvalue(),
                    "segments_info": [self._convert_category_id(s) for s in segments],
                }
            )

    def _segments_of(self, ids: np.ndarray) -> list[dict[str, Any]]:
        divisor = self._metadata.label_divisor
        things = self._metadata.thing_dataset_id_to_contiguous_id.values()
        found = [int(label) for label in np.unique(ids) if label != -1]
        return [
            {
                "id": label + 1,
                "category_id": label // divisor,
                "isthing": label // divisor in things,
            }
            for label in found
        ]

    def _convert_category_id(self, segment_info: dict[str, Any]) -> dict[str, Any]:
        """Return a copy with the dataset's own category and without "isthing"."""
        converted = dict(segment_info)
        isthing = converted.pop("isthing", None)
        if isthing is None:  # the category is the dataset's own already
            return converted
        things, stuff = (
            self._thing_contiguous_id_to_dataset_id,
            self._stuff_contiguous_id_to_dataset_id,
        )
        converted["category_id"] = (things if isthing else stuff)[converted["category_id"]]
        return converted

    def evaluate(self) -> OrderedDict | None:
        """Compute the panoptic quality of what was processed."""
        comm.synchronize()
        gathered = list(itertools.chain(*comm.gather(self._predictions)))
        if not comm.is_main_process():
            return None
        with PathManager.open(self._metadata.panoptic_json, encoding="utf-8") as file:
            truth = json.load(file)
        if self._output_dir is not None:
            self._write_predictions(truth, gathered)
        quality = self._quality(truth, gathered)
        results = {}
        for suffix, kind in (("", "All"), ("_th", "Things"), ("_st", "Stuff")):
            for metric in ("pq", "sq", "rq"):
                results[metric.upper() + suffix] = 100 * getattr(quality[kind], metric)
        _print_panoptic_results(quality)
        return OrderedDict({"panoptic_seg": results})

    def _quality(self, truth: dict, predictions: list[dict]) -> dict[str, Quality]:
        by_image = {prediction["image_id"]: prediction for prediction in predictions}
        missing = [a["image_id"] for a in truth["annotations"] if a["image_id"] not in by_image]
        if missing:
            raise KeyError(f"There is no prediction for the images {missing[:5]}.")
        root = PathManager.get_local_path(self._metadata.panoptic_root)

        def read(annotation: dict, prediction: dict) -> tuple[np.ndarray, np.ndarray]:
            with Image.open(os.path.join(root, annotation["file_name"])) as labels:
                annotated = rgb2id(np.asarray(labels.convert("RGB")))
            return annotated, rgb2id(np.asarray(Image.open(io.BytesIO(prediction["png_string"]))))

        pairs = [(a, by_image[a["image_id"]]) for a in truth["annotations"]]
        is_thing = {c["id"]: bool(c["isthing"]) for c in truth["categories"]}
        return panoptic_quality(pairs, read, is_thing, torch.get_num_threads())

    def _write_predictions(self, truth: dict, predictions: list[dict]) -> None:
        shown = [{k: v for k, v in p.items() if k != "png_string"} for p in predictions]
        path = os.path.join(str(self._output_dir), "predictions.json")
        logger.info("Saving results to %s", path)
        with PathManager.open(path, "w") as file:
            json.dump({**truth, "annotations": shown}, file)


def _print_panoptic_results(quality: dict[str, Quality]) -> None:
    rows = [
        [name, 100 * found.pq, 100 * found.sq, 100 * found.rq, found.categories]
        for name, found in quality.items()
    ]
    table = tabulate(
        rows,
        headers=["", "PQ", "SQ", "RQ", "#categories"],
        tablefmt="pipe",
        floatfmt=".3f",
        stralign="center",
        numalign="center",
    )
    logger.info("Panoptic Evaluation Results:\n" + table)
