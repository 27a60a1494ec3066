"""AP and latency of models and of exported files, side by side on a data set."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from d2ext.checkpoint import check_classes
from d2ext.data import dataset_stats
from d2ext.data.catalog import register_dataset
from d2ext.data.dataset_paths import dataset_flag_spec
from d2ext.engine.config_choice import load_trained_config
from d2ext.errors import ConfigError
from d2ext.exporters.accuracy import average_precisions
from d2ext.exporters.file_detector import FileDetector
from d2ext.exporters.formats import SUFFIXES, file_size, format_of
from d2ext.inference.predictor import Predictor
from detectron2.data import DatasetCatalog
from detectron2.structures import Instances

DATASET = "benchmark"  # the registered name of the data set
_COLUMNS = ("model", "format", "MB", "AP", "AP50", "mask AP", "median ms", "p90 ms", "images/s")


@dataclass(frozen=True)
class Measurement:
    """What was measured of a model or file.

    Args:
        model: as it was named.
        format: "pytorch", or the format of an exported file.
        megabytes: size of the file; None if it is not at hand, such as a name of weights.
        ap: COCO's numbers in percent by task, `ap["bbox"]["AP50"]`; None for what cannot be
            measured, such as the AP of large objects where there are none.
        median_ms, p90_ms: latency per image, from its pixels to its detections, in milliseconds.
        images_per_second: of single images one after another.
    """

    model: str
    format: str
    megabytes: float | None
    ap: dict[str, dict[str, float | None]]
    median_ms: float
    p90_ms: float
    images_per_second: float


def benchmark(
    models: Sequence[str | Path],
    data: str | Path,
    *,
    config: str | Path = "",
    device: str = "",
    threads: int = 0,
) -> list[Measurement]:
    """Measure AP and latency of models and exported files on a data set, as `d2ext-benchmark` does.

    At each image they take turns, so that other load on the machine slows all of them alike.

    Args:
        models: weights as `d2ext.load` takes them, and files of `d2ext.export`.
        data: as `--val` of the training takes it.
        config: the config file of the weights; "" takes the one stored with each.
        device: of the weights, such as "cuda:1"; exported files run on the CPU.
        threads: CPU threads; 0 for PyTorch's and the runtimes' own number.
    Raises:
        UserError: data, weights or a file are missing or wrong, or their classes differ.
    """
    with _registered(data), _torch_threads(threads):
        detectors = [_open(str(model), str(config), device, threads) for model in models]
        (first, *_), names = DatasetCatalog.get(DATASET), dataset_stats([DATASET]).class_names
        for detector in detectors:
            check_classes(detector.names or None, names)
        for detector in detectors:  # the first calls allocate memory and choose kernels
            detector.warm_up(first)
        found = average_precisions(detectors, DATASET)
    return [
        detector.measurement(str(model), ap)
        for model, detector, ap in zip(models, detectors, found, strict=True)
    ]


def as_table(measurements: Sequence[Measurement]) -> str:
    """Format measurements as a Markdown table; columns that all of them lack are left out."""
    rows = [_COLUMNS, *map(_row, measurements)]
    kept = [column for column in zip(*rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in kept]
    lines = [
        " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        for cells in zip(*kept, strict=True)
    ]
    rule = "-|-".join("-" * width for width in widths)
    return "\n".join(f"| {line} |" for line in (lines[0], rule, *lines[1:]))


class TimedDetector:
    """A detector of single images that remembers how long each call took.

    Args:
        detect: a `Predictor` or a `FileDetector`.
        format: of the file, or "pytorch".
    """

    def __init__(self, detect: Predictor | FileDetector, format: str) -> None:
        self.detect, self.format, self.names = detect, format, detect.names
        self.seconds: list[float] = []

    def __call__(self, image: np.ndarray) -> Instances:
        """Detect on a (H, W, 3) RGB uint8 image; return instances in its pixels, on the CPU."""
        start = time.perf_counter()
        found: Any = self.detect(image)
        if isinstance(found, dict):
            if "instances" not in found:
                raise ConfigError(f"AP is of boxes; the model predicts {', '.join(found)} only.")
            found = found["instances"]
        found = found.to("cpu")
        self.seconds.append(time.perf_counter() - start)
        return found

    def warm_up(self, item: dict[str, Any]) -> None:
        """Detect on a gray image of the size of a data set's `item`; forget how long it took."""
        self(np.full((item["height"], item["width"], 3), 127, np.uint8))
        self.seconds.clear()

    def measurement(self, model: str, ap: dict[str, dict[str, float]]) -> Measurement:
        """Sum up the calls."""
        exported = self.format != "pytorch"
        size = file_size(Path(model)) if exported else _bytes_of(Path(model))
        median, p90 = np.percentile(self.seconds, (50, 90)) * 1000
        return Measurement(
            model=model,
            format=self.format,
            megabytes=round(size / 1e6, 1) if size else None,
            ap={task: _without_nan(numbers) for task, numbers in ap.items()},
            median_ms=round(float(median), 2),
            p90_ms=round(float(p90), 2),
            images_per_second=round(1 / float(np.mean(self.seconds)), 2),
        )


def _without_nan(numbers: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _row(found: Measurement) -> tuple[str, ...]:
    boxes, masks = found.ap["bbox"], found.ap.get("segm")
    return (
        found.model,
        found.format,
        "" if found.megabytes is None else f"{found.megabytes:.1f}",
        _percent(boxes["AP"]),
        _percent(boxes["AP50"]),
        _percent(masks["AP"] if masks else None),
        f"{found.median_ms:.1f}",
        f"{found.p90_ms:.1f}",
        f"{found.images_per_second:.1f}",
    )


def _open(model: str, config: str, device: str, threads: int) -> TimedDetector:
    if Path(model).suffix.lower() in SUFFIXES.values():
        return TimedDetector(FileDetector.open(Path(model), threads), format_of(Path(model)))
    values = {"MODEL.WEIGHTS": model, "MODEL.DEVICE": device}
    pairs = [text for key, value in values.items() if value for text in (key, value)]
    return TimedDetector(Predictor(load_trained_config(config, pairs)), "pytorch")


def _bytes_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


@contextmanager
def _registered(data: str | Path) -> Iterator[None]:
    register_dataset(DATASET, dataset_flag_spec(str(data), "val")[0])
    try:
        dataset_stats([DATASET])  # reads it: what is wrong with it is said before models are
        yield
    finally:
        DatasetCatalog.remove(DATASET)


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
