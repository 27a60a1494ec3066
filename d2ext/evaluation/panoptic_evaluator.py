"""Evaluator of panoptic predictions, without panopticapi."""

import heapq
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from d2ext.data.segment_maps import Ids, encode_segment_ids, read_segment_ids
from d2ext.data.separate_things import thing_flags, with_categories
from d2ext.evaluation.panoptic_quality import PanopticCounts, match_segments
from d2ext.files import replacing
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

RESULTS = "panoptic_quality.json"
TASK, BOUNDARY_TASK = "panoptic_seg", "boundary_panoptic_seg"
_WORST = 12  # images whose prediction is kept for pictures


@dataclass(frozen=True, order=True)
class _Prediction:
    """The prediction on an image, ordered by how good it is, the best first."""

    badness: float
    file_name: str
    png: bytes
    segments: str


class PanopticEvaluator(DatasetEvaluator):
    """PQ, SQ and RQ in percent of "panoptic_seg": over all classes, things ("_th"), stuff ("_st").

    Predictions are what Detectron2's models return: (H, W) ids and per segment "id" and
    "category_id", a number of the data's `stuff_classes`, which here are all its classes.

    `evaluate` writes panoptic_quality.json: a row per class, and the worst images with their
    segments; the segment maps of these are in the folder "worst". A prediction counts as void
    where the annotation is void, and so do annotated ids that no segment has.

    Args:
        dataset_name: a registered data set whose dicts have "pan_seg_file_name".
        folder: where the results are written.
        separate: predicted things and stuff are numbered apart, see `separate_things`.
        boundary: also return "boundary_panoptic_seg", the same metrics by boundary IoU.
    """

    def __init__(
        self, dataset_name: str, folder: str, separate: bool = False, boundary: bool = False
    ) -> None:
        self.records = {record["file_name"]: record for record in DatasetCatalog.get(dataset_name)}
        metadata = MetadataCatalog.get(dataset_name)
        self.names, self.isthing = list(metadata.stuff_classes), thing_flags(dataset_name)
        self.folder, self.separate = Path(folder), separate
        self.tasks = [TASK, BOUNDARY_TASK] if boundary else [TASK]
        self.reset()

    def reset(self) -> None:
        self.counts = {task: PanopticCounts.zeros(len(self.names)) for task in self.tasks}
        self.worst: list[_Prediction] = []

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for item, output in zip(inputs, outputs, strict=True):
            ids, segments = output["panoptic_seg"]
            if self.separate:
                segments = with_categories(segments, self.isthing)
            record = self.records[item["file_name"]]
            predicted = ids.cpu().numpy().astype(np.int32, copy=False)
            truth = read_segment_ids(record["pan_seg_file_name"]), record["segments_info"]
            own = {
                task: match_segments(
                    *truth, predicted, segments, len(self.names), task == BOUNDARY_TASK
                )
                for task in self.tasks
            }
            for task, counts in own.items():
                self.counts[task] += counts
            self._keep(item["file_name"], 1 - _image_quality(own[TASK]), predicted, segments)

    def _keep(self, file_name: str, badness: float, ids: Ids, segments: Sequence[dict]) -> None:
        """Keep the prediction if it is among the worst so far."""
        if len(self.worst) >= _WORST and badness <= self.worst[0].badness:
            return
        png = cv2.imencode(".png", encode_segment_ids(ids)[..., ::-1])[1].tobytes()
        kept = [{key: s[key] for key in ("id", "category_id")} for s in segments]
        prediction = _Prediction(badness, file_name, png, json.dumps(kept))
        if len(self.worst) < _WORST:
            heapq.heappush(self.worst, prediction)
        else:
            heapq.heappushpop(self.worst, prediction)

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        gathered = comm.gather((self.counts, self.worst))
        if not comm.is_main_process():
            return None
        counts = {task: PanopticCounts.zeros(len(self.names)) for task in self.tasks}
        for task, (each, _) in product(self.tasks, gathered):
            counts[task] += each[task]
        worst = heapq.nlargest(_WORST, [prediction for _, kept in gathered for prediction in kept])
        self._write(counts[TASK], worst)
        return {task: self._metrics(each) for task, each in counts.items()}

    def _metrics(self, counts: PanopticCounts) -> dict[str, float]:
        """Return the metrics in percent by name: over all classes, things and stuff."""
        groups = {
            "": range(len(self.names)),
            "_th": [number for number, thing in enumerate(self.isthing) if thing],
            "_st": [number for number, thing in enumerate(self.isthing) if not thing],
        }
        results: dict[str, float] = {}
        for suffix, classes in groups.items():
            names = (f"PQ{suffix}", f"SQ{suffix}", f"RQ{suffix}")
            results |= zip(names, (100 * counts.means(classes)).tolist(), strict=True)
        return results

    def _write(self, counts: PanopticCounts, worst: Sequence[_Prediction]) -> None:
        folder = self.folder / "worst"
        folder.mkdir(parents=True, exist_ok=True)
        shown = []
        for number, prediction in enumerate(worst):
            path = folder / f"{number:02}.png"
            with replacing(path) as part:
                part.write_bytes(prediction.png)
            shown.append(
                {
                    "file_name": prediction.file_name,
                    "quality": 1 - prediction.badness,
                    "segment_map": f"worst/{path.name}",
                    "segments_info": json.loads(prediction.segments),
                }
            )
        document = {"classes": self._rows(counts), "worst": shown}
        with replacing(self.folder / RESULTS) as part:
            part.write_text(json.dumps(document, indent=1), encoding="utf-8")

    def _rows(self, counts: PanopticCounts) -> list[dict[str, Any]]:
        """Return a row per class; its numbers are null where the class has no segments."""
        columns = (self.names, self.isthing, counts.per_class().tolist())
        return [
            {"name": name, "isthing": bool(thing)}
            | {
                key: None if np.isnan(value) else 100 * value
                for key, value in zip(("PQ", "SQ", "RQ"), values, strict=True)
            }
            | {key: int(getattr(counts, key)[number]) for key in ("matched", "extra", "missed")}
            for number, (name, thing, values) in enumerate(zip(*columns, strict=True))
        ]


def _image_quality(counts: PanopticCounts) -> float:
    """Return the PQ of an image's segments of all classes together; 1 where there are none."""
    weight = counts.matched.sum() + (counts.extra.sum() + counts.missed.sum()) / 2
    return float(counts.iou.sum() / weight) if weight else 1.0
