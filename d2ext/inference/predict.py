"""Predict on image and video files: annotated copies and one JSON file of detections."""

from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from d2ext.data.image_reading import read_image
from d2ext.errors import DataError
from d2ext.inference.prediction_files import save_picture, write_results
from d2ext.inference.prediction_kinds import PredictionKind, prediction_kind
from d2ext.inference.predictor import Predictor
from d2ext.inference.timing import Stopwatch
from d2ext.inference.video import SUFFIXES, open_video, write_video

RESULTS = "predictions.json"


@dataclass(frozen=True)
class Prediction:
    """What a model predicts for an image, reduced to what reaches the confidence.

    Args:
        picture: annotated copy of the image, RGB uint8.
        kind: of the model's output.
        found: as returned by `kind.select`.
    """

    picture: np.ndarray
    kind: PredictionKind
    found: Any


class Job:
    """Predicts on one file after another and collects the content of predictions.json.

    Args:
        predictor: runs the model.
        output: folder for what is written.
        confidence: minimum score of a detection.
    """

    def __init__(self, predictor: Predictor, output: Path, confidence: float) -> None:
        self.predictor, self.output, self.confidence = predictor, output, confidence
        self.stopwatch = Stopwatch()
        self.images: list[dict[str, Any]] = []
        self.videos: list[dict[str, Any]] = []
        self.unreadable: list[str] = []  # messages

    def run(self, inputs: dict[Path, PurePath]) -> None:
        """Predict on every file; `inputs` as returned by `find_inputs`."""
        # disable=None: tqdm draws no bar into files and pipes, where it would be noise.
        for file, name in tqdm(inputs.items(), unit="file", disable=None):
            try:
                if file.suffix.lower() in SUFFIXES:
                    self.videos.append(self._video(file, name))
                else:
                    self.images.append(self._image(file, name))
            except DataError as error:
                self.unreadable.append(str(error))

    def report(self, inputs: int) -> None:
        """Write predictions.json and print the number of detections and the speed.

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
        if self.unreadable:
            raise DataError(
                f"{len(self.unreadable)} of {inputs} files left out: {'; '.join(self.unreadable)}"
            )

    def predict(self, image: np.ndarray, stopwatch: Stopwatch) -> Prediction:
        """Predict on an (H, W, 3) RGB uint8 image and draw the result."""
        with stopwatch.part("detect"):
            output = self.predictor(image)
            key, kind = prediction_kind(output)
            found = kind.select(output[key], self.confidence)
        with stopwatch.part("draw"):
            return Prediction(kind.draw(image, found, self.predictor.names), kind, found)

    def _image(self, file: Path, name: PurePath) -> dict[str, Any]:
        with self.stopwatch.part("read"):
            image = _read(file)
        prediction = self.predict(image, self.stopwatch)
        with self.stopwatch.part("write"):
            save_picture(self.output / name, prediction.picture)
        self.stopwatch.rounds += 1
        height, width = image.shape[:2]
        entry = {"file": str(file), "picture": name.as_posix(), "width": width, "height": height}
        return {**entry, "detections": self._detections(prediction)}

    def _video(self, file: Path, name: PurePath) -> dict[str, Any]:
        frames: list[dict[str, Any]] = []
        height, width = 0, 0
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
                prediction = self.predict(image, self.stopwatch)
                with self.stopwatch.part("write"):
                    write(prediction.picture)
                height, width = image.shape[:2]
                detections = self._detections(prediction)
                frames.append({"frame": len(frames), "detections": detections})
                self.stopwatch.rounds += 1
                bar.update()
            if not frames:
                raise DataError(f"{file} (no frame in it can be read)")
        entry = {"file": str(file), "video": name.as_posix(), "frame_rate": video.rate}
        return {**entry, "width": width, "height": height, "frames": frames}

    def _detections(self, prediction: Prediction) -> list[dict[str, Any]]:
        return prediction.kind.as_json(prediction.found, self.predictor.names)


def _read(file: Path) -> np.ndarray:
    try:
        return read_image(str(file), format="RGB")
    except UnidentifiedImageError as error:
        raise DataError(f"{file} (not an image)") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{file} ({error})") from error
