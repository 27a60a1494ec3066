"""Prediction on images and videos: annotated copies and a JSON file of detections."""

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

import d2ext.data
import d2ext.modeling  # noqa: F401  (registers)
from d2ext.checkpoint import load_for_evaluation, read_metadata
from d2ext.config.load import class_counts
from d2ext.data.augmentation.resize import resize_to
from d2ext.engine.auto import inherit_auto
from d2ext.engine.devices import choose_device
from d2ext.errors import DataError
from d2ext.inference.prediction_files import annotated, detections_of, save_picture, write_results
from d2ext.inference.semantic_regions import regions_of
from d2ext.inference.timing import Stopwatch
from d2ext.inference.video import SUFFIXES, open_video, write_video
from d2ext.modeling.deploy import fuse_for_inference
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.data.detection_utils import read_image
from detectron2.modeling import build_model
from detectron2.structures import Instances

RESULTS = "predictions.json"


class Predictor:
    """A trained model that takes single images: Detectron2's `DefaultPredictor`, for d2ext's files.

    Number and names of the classes are those of the weights; where the file does not say, those of
    the config's data set; else the classes are numbered.

    Args:
        cfg: from `load_config`; what is `auto` in it is taken from the weights.
    Raises:
        WeightsError: MODEL.WEIGHTS is empty, missing, unreadable or of another model.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.names = _resolve_classes(cfg)
        cfg.MODEL.DEVICE, note = choose_device(cfg.MODEL.DEVICE)
        if note:
            print(note)
        self.model = build_model(cfg).eval()
        load_for_evaluation(self.model, cfg.MODEL.WEIGHTS)
        fuse_for_inference(self.model)
        self.format = cfg.INPUT.FORMAT
        shortest = cfg.INPUT.MIN_SIZE_TEST
        by_edge = T.ResizeShortestEdge([shortest, shortest], cfg.INPUT.MAX_SIZE_TEST)
        self.resize = resize_to(cfg) or by_edge

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> Instances:
        """(H, W, 3) RGB uint8 -> instances in its pixels, or regions of them, on the CPU."""
        height, width = image.shape[:2]
        pixels = self.resize.get_transform(image).apply_image(image)
        if self.format == "BGR":
            pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        tensor = torch.as_tensor(np.ascontiguousarray(pixels)).permute(2, 0, 1)
        (output,) = self.model([{"image": tensor, "height": height, "width": width}])
        if "instances" in output:
            return output["instances"].to("cpu")
        return regions_of(output["sem_seg"])


def _resolve_classes(cfg: CfgNode) -> list[str]:
    """Let `auto` values and class counts follow the weights; returns the names of the classes."""
    metadata = read_metadata(cfg.MODEL.WEIGHTS) if cfg.MODEL.WEIGHTS else {}
    if "config" in metadata:
        inherit_auto(cfg, metadata["config"])
    names = metadata.get("thing_classes") or _names_of_data(cfg)
    for key in class_counts(cfg):
        if names and key in cfg.AUTO:
            cfg.merge_from_list([key, len(names)])
    cfg.AUTO = []
    return list(names)


def _names_of_data(cfg: CfgNode) -> Sequence[str]:
    """Of the first data set whose classes are known without reading it."""
    datasets = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    known = (MetadataCatalog.get(name).get("thing_classes", None) for name in datasets)
    return next(filter(None, known), ())


class Job:
    """Predicts on files, one after the other, and keeps what the JSON will say.

    Args:
        predictor: finds objects in an image.
        output: folder for what is written.
        confidence: least score of a detection.
    """

    def __init__(self, predictor: Predictor, output: Path, confidence: float) -> None:
        self.predictor, self.output, self.confidence = predictor, output, confidence
        self.stopwatch = Stopwatch()
        self.images: list[dict[str, Any]] = []
        self.videos: list[dict[str, Any]] = []
        self.faults: list[str] = []  # messages about files that cannot be read

    def run(self, inputs: dict[Path, PurePath]) -> None:
        """Predict on every file; `inputs` as of `find_inputs`."""
        # No bar where nobody watches: in files and pipes it is a mess.
        for file, name in tqdm(inputs.items(), unit="file", disable=None):
            try:
                if file.suffix.lower() in SUFFIXES:
                    self.videos.append(self._video(file, name))
                else:
                    self._image(file, name)
            except DataError as error:
                self.faults.append(str(error))

    def report(self, inputs: int) -> None:
        """Write the JSON and say what was found and how fast.

        Raises:
            DataError: some of the `inputs` could not be read.
        """
        path = self.output / RESULTS
        content = {"classes": self.predictor.names, "confidence": self.confidence}
        videos = {"videos": self.videos} if self.videos else {}
        write_results(path, {**content, "images": self.images, **videos})
        frames = [frame for video in self.videos for frame in video["frames"]]
        count = sum(len(entry["detections"]) for entry in (*self.images, *frames))
        what = f"{len(self.images)} images" if self.images or not frames else ""
        parts = [what, f"{len(frames)} frames" if frames else ""]
        print(f"{count} detections in {' and '.join(filter(None, parts))}: {path}")
        if self.stopwatch.rounds:
            print(self.stopwatch.summary("frames" if frames else "images"))
        if not count:
            print(f"none reaches --confidence {self.confidence}; a lower one may show some")
        if self.faults:
            raise DataError(
                f"{len(self.faults)} of {inputs} files left out: {'; '.join(self.faults)}"
            )

    def picture(self, image: np.ndarray, stopwatch: Stopwatch) -> tuple[np.ndarray, Instances]:
        """(H, W, 3) RGB -> the same with what was found drawn in, and what was found."""
        with stopwatch.part("detect"):
            found = self.predictor(image)
            found = found[found.scores >= self.confidence]
        with stopwatch.part("draw"):
            return annotated(image, found, self.predictor.names), found

    def _image(self, file: Path, name: PurePath) -> None:
        with self.stopwatch.part("read"):
            image = _read(file)
        picture, found = self.picture(image, self.stopwatch)
        with self.stopwatch.part("write"):
            save_picture(self.output / name, picture)
        self.stopwatch.rounds += 1
        height, width = found.image_size
        entry = {"file": str(file), "picture": name.as_posix(), "width": width, "height": height}
        detections = detections_of(found, self.predictor.names)
        self.images.append({**entry, "detections": detections})

    def _video(self, file: Path, name: PurePath) -> dict[str, Any]:
        frames: list[dict[str, Any]] = []
        size = (0, 0)
        with (
            open_video(file) as video,
            write_video(self.output / name, video.rate) as write,
            tqdm(total=video.count or None, unit="frame", desc=file.name, disable=None) as bar,
        ):
            while True:
                with self.stopwatch.part("read"):
                    image = video.read()
                if image is None:
                    break
                picture, found = self.picture(image, self.stopwatch)
                with self.stopwatch.part("write"):
                    write(picture)
                size = found.image_size
                detections = detections_of(found, self.predictor.names)
                frames.append({"frame": len(frames), "detections": detections})
                self.stopwatch.rounds += 1
                bar.update()
            if not frames:
                raise DataError(f"{file} (no frame in it can be read)")
        entry = {"file": str(file), "video": name.as_posix(), "frame_rate": video.rate}
        return {**entry, "width": size[1], "height": size[0], "frames": frames}


def _read(file: Path) -> np.ndarray:
    try:
        return read_image(str(file), format="RGB")
    except UnidentifiedImageError as error:
        raise DataError(f"{file} (not an image)") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{file} ({error})") from error
