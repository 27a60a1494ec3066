"""Predict on image and video files: annotated copies and files of detections."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from torch import Tensor
from tqdm import tqdm

from d2ext.errors import DataError, UserError
from d2ext.inference.heartbeat import Heartbeat
from d2ext.inference.prediction_files import save_picture, write_results
from d2ext.inference.prediction_kinds import PredictionKind, prediction_kind
from d2ext.inference.predictor import Predictor
from d2ext.inference.reading import (
    ImageFiles,
    LoadedImage,
    batch_size_for,
    read_images,
    same_size_batches,
)
from d2ext.inference.timing import Stopwatch
from d2ext.inference.tracking import RATE, ByteTracker, frame_order, select_shown
from d2ext.inference.video import SUFFIXES, open_video, write_video
from d2ext.inference.writers import Writer, build_writers

RESULTS = "predictions.json"


@dataclass(frozen=True)
class Prediction:
    """What a model predicts for an image, reduced to what reaches the confidence.

    Args:
        kind: of the model's output.
        found: as returned by `kind.select`.
    """

    kind: PredictionKind
    found: Any


@dataclass(frozen=True)
class PredictOptions:
    """How predictions are made and written.

    Args:
        confidence: minimum score of a detection.
        pictures: write annotated copies.
        formats: names of further formats; see `build_writers`.
        batch: images per batch; 0: by their size and the device.
        workers: processes that read images; 0: none.
        quiet: show no progress.
        track: number objects over the frames of each video and the images of each folder.
    """

    confidence: float = 0.5
    pictures: bool = True
    formats: Sequence[str] = ()
    batch: int = 0
    workers: int = 0
    quiet: bool = False
    track: bool = False


class Job:
    """Predicts on files and collects the content of predictions.json.

    Args:
        predictor: runs the model.
        output: folder for what is written.
    """

    def __init__(self, predictor: Predictor, output: Path, options: PredictOptions) -> None:
        self.predictor, self.output, self.options = predictor, output, options
        self.stopwatch = Stopwatch()
        self.images: dict[Path, dict[str, Any]] = {}
        self.videos: dict[Path, dict[str, Any]] = {}
        self.failed: dict[Path, str] = {}  # messages
        self.trackers: dict[Path, ByteTracker | None] = {}  # of folders of frames

    def run(self, inputs: dict[Path, PurePath]) -> None:
        """Predict on every file; `inputs` as returned by `find_inputs`.

        Raises:
            UserError: something is wrong that concerns all files, such as a full disk.
        """
        videos = [file for file in inputs if file.suffix.lower() in SUFFIXES]
        images = [file for file in inputs if file.suffix.lower() not in SUFFIXES]
        if self.options.track:
            images.sort(key=frame_order)
        with (
            self._writers() as writers,
            Heartbeat(len(inputs), "file", self.options.quiet) as progress,
        ):
            for file, entry in self._predict_images(images, inputs):
                if entry is not None:
                    self.images[file] = entry
                    for writer in writers:
                        writer.add(inputs[file], entry)
                progress.update()
            for file in videos:
                self._predict_video(file, inputs[file], writers[0])
                progress.update()

    def report(self, inputs: Sequence[Path]) -> int:
        """Write predictions.json; print the number of detections, the speed and failed files.

        Args:
            inputs: all files, in the order in which predictions.json lists them.
        Returns:
            The exit status: 0, or 1 if some of the files failed.
        Raises:
            DataError: all of them failed.
        """
        path, names = self.output / RESULTS, self.predictor.names
        content = {"classes": names, "confidence": self.options.confidence}
        videos = [self.videos[file] for file in inputs if file in self.videos]
        images = [self.images[file] for file in inputs if file in self.images]
        write_results(path, {**content, "images": images, **({"videos": videos} if videos else {})})
        frames = [frame for video in videos for frame in video["frames"]]
        count = sum(len(entry["detections"]) for entry in (*images, *frames))
        what = f"{len(images)} images" if images or not frames else ""
        parts = [what, f"{len(frames)} frames" if frames else ""]
        print(f"{count} detections in {' and '.join(filter(None, parts))}: {path}")
        if self.stopwatch.rounds:
            print(self.stopwatch.summary("frames" if frames else "images"))
        if not count:
            print(f"none reaches --confidence {self.options.confidence}; a lower one may show some")
        return self._report_failed(inputs)

    def predict(
        self, image: np.ndarray, stopwatch: Stopwatch, tracker: ByteTracker | None
    ) -> np.ndarray:
        """Predict on an (H, W, 3) RGB uint8 image; return its annotated copy."""
        with stopwatch.part("detect"):
            prediction = self._select(self.predictor(image), tracker)
        with stopwatch.part("draw"):
            return self._draw(image, prediction)

    def new_tracker(self, rate: float) -> ByteTracker | None:
        """Build the tracker of a video of `rate` frames per second; None if none is wanted."""
        return ByteTracker(self.options.confidence, rate) if self.options.track else None

    def _report_failed(self, inputs: Sequence[Path]) -> int:
        if not self.failed:
            return 0
        messages = [self.failed[file] for file in inputs if file in self.failed]
        head = f"{len(messages)} of {len(inputs)} files left out"
        if len(messages) == len(inputs):
            raise DataError(f"{head}: {'; '.join(messages)}")
        print("\n  ".join([f"{head}:", *messages]), file=sys.stderr)
        return 1

    @contextmanager
    def _writers(self) -> Iterator[list[Writer]]:
        writers = build_writers(self.options.formats, self.output, self.predictor.names)
        try:
            yield writers
        finally:
            for writer in writers:
                writer.close()

    def _predict_images(
        self, files: Sequence[Path], names: dict[Path, PurePath]
    ) -> Iterator[tuple[Path, dict[str, Any] | None]]:
        """Yield every file with its entry in predictions.json; None where it failed."""
        readable = ImageFiles(files, self.predictor.prepare, keep=self.options.pictures)
        loaded = self._timed(read_images(readable, self.options.workers))
        for batch in same_size_batches(loaded, self._batch_size):
            for image, prediction in self._detect(batch, files):
                file = files[image.number]
                yield file, self._entry(file, names[file], image, prediction)

    def _batch_size(self, pixels: Tensor) -> int:
        if self.options.track:
            return 1  # batches of one size would change the order of frames
        return self.options.batch or batch_size_for(pixels, self.predictor.device.type == "cuda")

    def _timed(self, images: Any) -> Iterator[LoadedImage]:
        iterator = iter(images)
        while True:
            with self.stopwatch.part("read"):
                image = next(iterator, None)
            if image is None:
                return
            yield image

    def _detect(
        self, batch: list[LoadedImage], files: Sequence[Path]
    ) -> Iterator[tuple[LoadedImage, Prediction | None]]:
        """Run the model on a batch; an image that it cannot take is noted as failed."""
        if batch[0].pixels is None:
            self.failed[files[batch[0].number]] = batch[0].error
            yield batch[0], None
            return
        try:
            with self.stopwatch.part("detect"):
                sized = [(each.pixels, each.height, each.width) for each in batch]
                outputs = self.predictor.predict(sized)
                trackers = (self._folder_tracker(files[each.number]) for each in batch)
                found = [self._select(*each) for each in zip(outputs, trackers, strict=True)]
        except UserError:
            raise
        except Exception as error:
            if len(batch) > 1:
                for image in batch:
                    yield from self._detect([image], files)
                return
            self.failed[files[batch[0].number]] = (
                f"{files[batch[0].number]} (the model fails: {type(error).__name__}: {error})"
            )
            yield batch[0], None
            return
        yield from zip(batch, found, strict=True)

    def _entry(
        self, file: Path, name: PurePath, image: LoadedImage, prediction: Prediction | None
    ) -> dict[str, Any] | None:
        if prediction is None:
            return None
        entry: dict[str, Any] = {"file": str(file)}
        if image.image is not None:
            with self.stopwatch.part("draw"):
                picture = self._draw(image.image, prediction)
            with self.stopwatch.part("write"):
                save_picture(self.output / name, picture)
            entry["picture"] = name.as_posix()
        self.stopwatch.rounds += 1
        entry |= {"width": image.width, "height": image.height}
        return {**entry, "detections": self._detections(prediction)}

    def _predict_video(self, file: Path, name: PurePath, lines: Writer) -> None:
        try:
            self.videos[file] = self._video(file, name, lines)
        except DataError as error:
            self.failed[file] = str(error)

    def _video(self, file: Path, name: PurePath, lines: Writer) -> dict[str, Any]:
        frames: list[dict[str, Any]] = []
        height, width = 0, 0
        quiet = True if self.options.quiet else None  # None: no bar off a terminal
        with (
            open_video(file) as video,
            write_video(self.output / name, video.rate, self.options.pictures) as write,
            tqdm(total=video.count or None, unit="frame", desc=file.name, disable=quiet) as bar,
        ):
            tracker = self.new_tracker(video.rate)
            while True:
                with self.stopwatch.part("read"):
                    image = video.read()
                if image is None:
                    break
                with self.stopwatch.part("detect"):
                    prediction = self._select(self.predictor(image), tracker)
                if self.options.pictures:
                    with self.stopwatch.part("draw"):
                        picture = self._draw(image, prediction)
                    with self.stopwatch.part("write"):
                        write(picture)
                height, width = image.shape[:2]
                frame = {"frame": len(frames), "detections": self._detections(prediction)}
                lines.add(name, {"file": str(file), **frame})
                frames.append(frame)
                self.stopwatch.rounds += 1
                bar.update()
            if not frames:
                raise DataError(f"{file} (no frame in it can be read)")
        entry: dict[str, Any] = {"file": str(file)}
        if self.options.pictures:
            entry["video"] = name.as_posix()
        size = {"frame_rate": video.rate, "width": width, "height": height}
        return {**entry, **size, "frames": frames}

    def _folder_tracker(self, file: Path) -> ByteTracker | None:
        """Return the tracker of the images of a file's folder."""
        return self.trackers.setdefault(file.parent, self.new_tracker(RATE))

    def _select(self, output: dict[str, Any], tracker: ByteTracker | None) -> Prediction:
        key, kind = prediction_kind(output)
        found = select_shown(kind, output[key], self.options.confidence, tracker)
        return Prediction(kind, found)

    def _draw(self, image: np.ndarray, prediction: Prediction) -> np.ndarray:
        return prediction.kind.draw(image, prediction.found, self._names(prediction))

    def _detections(self, prediction: Prediction) -> list[dict[str, Any]]:
        return prediction.kind.as_json(prediction.found, self._names(prediction))

    def _names(self, prediction: Prediction) -> Sequence[str]:
        of_pixels = prediction.kind.labels_pixels and self.predictor.pixel_names
        return self.predictor.pixel_names if of_pixels else self.predictor.names
