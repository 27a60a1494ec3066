"""The prediction command for DETR3D: samples of nuScenes in, cameras with boxes in space out."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from d2ext.data import register_datasets
from d2ext.data.cleaning import as_file_name
from d2ext.data.mappers import build_mapper
from d2ext.errors import DataError
from d2ext.inference import DemoRequest, Predictor, register_demo
from d2ext.inference.prediction_files import save_picture, write_results
from d2ext.inference.timing import Stopwatch
from d2ext.projects.detr3d.data.classes import CLASSES
from d2ext.projects.detr3d.data.formats import find, load
from d2ext.projects.detr3d.data.samples import Item
from d2ext.projects.detr3d.modeling.decoding import SpaceDetections
from d2ext.projects.detr3d.visualization import Drawn, draw_sample
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

RESULTS = "predictions.json"


def predict_samples(request: DemoRequest) -> None:
    """Draw the cameras and a bird's-eye view of each sample and write predictions.json.

    Raises:
        DataError: an input is none, or images cannot be read; all other samples are done first.
    """
    register_datasets(request.cfg)
    items = find_samples(request.inputs, request.cfg)
    demo, unreadable = _Demo(request), []
    for item in tqdm(items, unit="sample", disable=None):  # None: no bar outside terminals
        try:
            demo.add(item)
        except DataError as error:
            unreadable.append(str(error))
    demo.report()
    if unreadable:
        raise DataError(
            f"{len(unreadable)} of {len(items)} samples left out: {'; '.join(unreadable)}"
        )


class _Demo:
    """Predicts on one sample after another and collects the content of predictions.json."""

    def __init__(self, request: DemoRequest) -> None:
        self.output, self.confidence = request.output, request.confidence
        self.predictor, self.mapper = Predictor(request.cfg), build_mapper(request.cfg, "test")
        self.reach = max(map(abs, np.delete(request.cfg.MODEL.DETR3D.POINT_RANGE, (2, 5))))
        self.stopwatch = Stopwatch()
        self.entries: list[dict[str, Any]] = []

    def add(self, item: Item) -> None:
        """Predict on a sample and write its picture, ground truth below the detections."""
        with self.stopwatch.part("read"):
            sample = self.mapper(item)
        with self.stopwatch.part("detect"), torch.no_grad():
            found = self.predictor.model([sample])[0]["boxes_3d"].above(self.confidence)
        with self.stopwatch.part("draw"):
            groups = [Drawn.of_truth(item), Drawn.of_detections(found)]
            picture = draw_sample(item, groups, reach=self.reach)
        name = picture_name(item["image_id"])
        with self.stopwatch.part("write"):
            save_picture(self.output / name, picture)
        self.stopwatch.rounds += 1
        entry = {"sample": item["image_id"], "picture": name}
        self.entries.append({**entry, "detections": as_json(found)})

    def report(self) -> None:
        """Write predictions.json and print the number of detections and the speed."""
        path = self.output / RESULTS
        content = {"classes": CLASSES, "confidence": self.confidence}
        write_results(path, {**content, "samples": self.entries})
        count = sum(len(entry["detections"]) for entry in self.entries)
        print(f"{count} detections in {len(self.entries)} samples: {path}")
        if self.entries:
            print(self.stopwatch.summary("samples"))


def picture_name(token: str) -> str:
    """Return the file name of a sample's picture; a token of a file may be "../a", too."""
    return f"{as_file_name(token)}.jpg"


def find_samples(inputs: Sequence[str], cfg: CfgNode) -> list[Item]:
    """Find the samples that the words of `--input` name.

    Args:
        inputs: folders of nuScenes or info files; names of data sets; tokens, which select samples
            of the former, or of the config's data sets where none is named. Folders with a
            validation split stand for it unless tokens are named.
        cfg: reads DATASETS.
    Raises:
        DataError: a word is neither of these, or a folder holds no nuScenes data.
    """
    named = {word for word in inputs if Path(word).exists() or word in DatasetCatalog.list()}
    tokens = dict.fromkeys(word for word in inputs if word not in named)
    sources = [word for word in inputs if word in named]
    searched = sources or [*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN]
    items = [item for word in searched for item in _read(word, every_split=bool(tokens))]
    if not tokens:
        return items
    by_token = {item["image_id"]: item for item in items}
    missing = [token for token in tokens if token not in by_token]
    if missing:
        raise DataError(
            f"--input {' '.join(missing)}: no such file or folder, and no sample of "
            f"{', '.join(searched)} has this token"
        )
    return [by_token[token] for token in tokens]


def _read(source: str, every_split: bool) -> Iterable[Item]:
    """Return the samples of a data set, an info file or a folder."""
    if not Path(source).exists():
        return DatasetCatalog.get(source)
    parts = find(Path(source), None)
    if not parts:
        raise DataError(
            f"--input {source}: no nuScenes folder. It has one folder v1.0-* of tables beside "
            "samples; with several versions, name the folder of one."
        )
    chosen = parts.values() if every_split or "val" not in parts else [parts["val"]]
    return [item for part in chosen for item in load(part).images]


def as_json(found: SpaceDetections) -> list[dict[str, Any]]:
    """Convert detections to JSON objects in the lidar frame: metres, radians, metres per second.

    Size is width, length, height; yaw is the angle from x to the length, counter-clockwise.
    """
    boxes = found.boxes.cpu().numpy().astype(np.float64)
    yaw = (-boxes[:, 6] - np.pi / 2 + np.pi) % (2 * np.pi) - np.pi
    rows = zip(
        boxes[:, :3].round(3).tolist(),
        boxes[:, 3:6].round(3).tolist(),
        yaw.round(4).tolist(),
        boxes[:, 7:9].round(3).tolist(),
        found.scores.tolist(),
        found.classes.tolist(),
        strict=True,
    )
    return [
        {
            **{"centre": centre, "size": size, "yaw": angle, "velocity": velocity},
            **{"score": round(score, 4), "class_id": label, "class_name": CLASSES[label]},
        }
        for centre, size, angle, velocity, score, label in rows
    ]


register_demo("DETR3D", predict_samples)
