"""Storage of the scalars, images and histograms of a training, and their writers.

Anything that runs inside `with EventStorage(...)` can add scalars, images and histograms to
`get_event_storage()`; the writers take them from there.
"""

import datetime
import json
import logging
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import takewhile
from typing import IO, Any

import numpy as np
import torch
from fvcore.common.history_buffer import HistoryBuffer
from torch import Tensor

from .file_io import PathManager

__all__ = [
    "CommonMetricPrinter",
    "EventStorage",
    "JSONWriter",
    "TensorboardXWriter",
    "get_event_storage",
    "has_event_storage",
]

_CURRENT_STORAGE_STACK: list["EventStorage"] = []


def get_event_storage() -> "EventStorage":
    """Return the storage of the innermost `with EventStorage(...)`.

    Raises:
        RuntimeError: no storage is active.
    """
    if not _CURRENT_STORAGE_STACK:
        raise RuntimeError("get_event_storage() works inside 'with EventStorage(...)' only.")
    return _CURRENT_STORAGE_STACK[-1]


def has_event_storage() -> bool:
    """Return whether a storage is active: `with EventStorage(...)`."""
    return bool(_CURRENT_STORAGE_STACK)


class EventStorage:
    """Scalars with their history, and the images and histograms not yet written.

    Args:
        start_iter: the first iteration.
    """

    def __init__(self, start_iter: int = 0) -> None:
        self._history: dict[str, HistoryBuffer] = defaultdict(HistoryBuffer)
        self._smoothing_hints: dict[str, bool] = {}
        self._latest_scalars: dict[str, tuple[float, int]] = {}
        self._iter = start_iter
        self._current_prefix = ""
        self._vis_data: list[tuple[str, Any, int]] = []
        self._histograms: list[dict[str, Any]] = []

    def put_scalar(
        self, name: str, value: float, smoothing_hint: bool = True, cur_iter: int | None = None
    ) -> None:
        """Add a scalar.

        Args:
            name: name of the scalar, prefixed by the name scope.
            value: a number, or a tensor with one element.
            smoothing_hint: the scalar is noisy and should be smoothed by writers. Always the same
                for one name.
            cur_iter: iteration of the scalar; by default the current one.

        Raises:
            ValueError: the name was used with the other `smoothing_hint` before.
        """
        name = self._current_prefix + name
        iteration = self._iter if cur_iter is None else cur_iter
        value = float(value)
        # Otherwise the same curve would be smoothed at some iterations only.
        if self._smoothing_hints.setdefault(name, smoothing_hint) != smoothing_hint:
            raise ValueError(
                f"Scalar {name} is put with smoothing_hint={smoothing_hint}, and was with "
                f"{not smoothing_hint} before."
            )
        self._history[name].update(value, iteration)
        self._latest_scalars[name] = (value, iteration)

    def put_scalars(
        self, *, smoothing_hint: bool = True, cur_iter: int | None = None, **kwargs: float
    ) -> None:
        """Add several scalars, e.g. `put_scalars(loss=loss, accuracy=accuracy)`."""
        for name, value in kwargs.items():
            self.put_scalar(name, value, smoothing_hint, cur_iter)

    def put_image(self, img_name: str, img_tensor: Tensor | np.ndarray) -> None:
        """Add an image for TensorBoard: (3, H, W) RGB, uint8 or float in [0, 1]."""
        self._vis_data.append((img_name, img_tensor, self._iter))

    def put_histogram(self, hist_name: str, hist_tensor: Tensor, bins: int = 1000) -> None:
        """Add a histogram of a tensor's values for TensorBoard, with `bins` equal bins."""
        values = hist_tensor.detach().float().flatten()
        low, high = values.min().item(), values.max().item()
        # TensorBoard expects the right edges of the bins.
        edges = torch.linspace(low, high, steps=bins + 1)[1:]  # right ends
        self._histograms.append(
            {
                "tag": hist_name,
                "min": low,
                "max": high,
                "num": len(values),
                "sum": values.sum().item(),
                "sum_squares": values.square().sum().item(),
                "bucket_limits": edges.tolist(),
                "bucket_counts": torch.histc(values, bins=bins).tolist(),
                "global_step": self._iter,
            }
        )

    def history(self, name: str) -> HistoryBuffer:
        """Return all values of one scalar.

        Raises:
            KeyError: there is no scalar of that name.
        """
        if name not in self._history:
            raise KeyError(f"No history of a scalar named {name}.")
        return self._history[name]

    def histories(self) -> Mapping[str, HistoryBuffer]:
        """Return all values of all scalars."""
        return self._history

    def latest(self) -> dict[str, tuple[float, int]]:
        """Return each scalar's last value and its iteration."""
        return self._latest_scalars

    def latest_with_smoothing_hint(self, window_size: int = 20) -> dict[str, tuple[float, int]]:
        """Return `latest`, but noisy scalars as medians over the last `window_size` iterations."""
        return {
            name: (self._smoothed(name, window_size), iteration)
            for name, (_, iteration) in self._latest_scalars.items()
        }

    def _smoothed(self, name: str, window_size: int) -> float:
        if self._smoothing_hints[name]:
            return self._history[name].median(self.count_samples(name, window_size))
        return self._latest_scalars[name][0]

    def count_samples(self, name: str, window_size: int = 20) -> int:
        """Count the values in the `window_size` iterations up to the scalar's last one."""
        values = self.history(name).values()
        first = values[-1][1] - window_size
        # From the end: histories are long, and this is called often.
        return sum(1 for _ in takewhile(lambda value: value[1] > first, reversed(values)))

    def smoothing_hints(self) -> dict[str, bool]:
        """Return the scalars that are noisy."""
        return self._smoothing_hints

    def step(self) -> None:
        """Advance to the next iteration."""
        self._iter += 1

    @property
    def iter(self) -> int:
        """The current iteration; may be set."""
        return self._iter

    @iter.setter
    def iter(self, value: int) -> None:
        self._iter = int(value)

    @property
    def iteration(self) -> int:
        """Older name of `iter`."""
        return self._iter

    def __enter__(self) -> "EventStorage":
        _CURRENT_STORAGE_STACK.append(self)
        return self

    def __exit__(self, *exception: object) -> None:
        if _CURRENT_STORAGE_STACK[-1] is not self:
            raise RuntimeError("EventStorage contexts are left in the wrong order.")
        _CURRENT_STORAGE_STACK.pop()

    @contextmanager
    def name_scope(self, name: str) -> Iterator[None]:
        """Prefix the names of scalars added within the context; replaces an outer scope."""
        outer, self._current_prefix = self._current_prefix, name.rstrip("/") + "/"
        try:
            yield
        finally:
            self._current_prefix = outer

    def clear_images(self) -> None:
        """Delete the images after they were written."""
        self._vis_data = []

    def clear_histograms(self) -> None:
        """Delete the histograms after they were written."""
        self._histograms = []


class EventWriter:
    """Base class of writers, which fetch new values from the current `EventStorage`."""

    def write(self) -> None:
        """Write the values since the last call."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the output."""


class JSONWriter(EventWriter):
    """Writer of one JSON object per line: the scalars of an iteration, noisy ones as medians.

    Args:
        json_file: path of the file, which is appended to.
        window_size: iterations of the smoothing window.
    """

    def __init__(self, json_file: str | os.PathLike, window_size: int = 20) -> None:
        self._file_handle: IO[str] = PathManager.open(os.fspath(json_file), "a", encoding="utf-8")
        self._window_size = window_size
        self._last_write = -1

    def write(self) -> None:
        """Write the scalars newer than the last one written, by iteration."""
        lines: dict[int, dict[str, float]] = defaultdict(dict)
        scalars = get_event_storage().latest_with_smoothing_hint(self._window_size)
        for name, (value, iteration) in scalars.items():
            if iteration > self._last_write:
                lines[iteration][name] = float(value)
        for iteration, values in sorted(lines.items()):
            line = json.dumps({**values, "iteration": iteration}, sort_keys=True)
            self._file_handle.write(line + "\n")
        self._last_write = max(lines, default=self._last_write)
        self._file_handle.flush()
        with suppress(AttributeError, OSError):  # a remote file has no descriptor
            os.fsync(self._file_handle.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file_handle.close()


class TensorboardXWriter(EventWriter):
    """Writer of TensorBoard event files.

    Args:
        log_dir: folder, created at the first write.
        window_size: iterations of the smoothing window of noisy scalars.
        **kwargs: options of `torch.utils.tensorboard.SummaryWriter`.
    """

    def __init__(self, log_dir: str, window_size: int = 20, **kwargs: Any) -> None:
        self._log_dir = log_dir
        self._window_size = window_size
        self._writer_args = kwargs
        self._last_write = -1

    @cached_property
    def _writer(self) -> Any:
        from torch.utils.tensorboard import SummaryWriter  # takes seconds to import

        return SummaryWriter(self._log_dir, **self._writer_args)

    def write(self) -> None:
        """Write new scalars and all images and histograms, and delete the latter two."""
        storage = get_event_storage()
        scalars = storage.latest_with_smoothing_hint(self._window_size)
        new = {name: v for name, v in scalars.items() if v[1] > self._last_write}
        for name, (value, iteration) in new.items():
            self._writer.add_scalar(name, value, iteration)
        self._last_write = max((i for _, i in new.values()), default=self._last_write)
        for name, image, iteration in storage._vis_data:
            self._writer.add_image(name, image, iteration)
        storage.clear_images()
        for histogram in storage._histograms:
            self._writer.add_histogram_raw(**histogram)
        storage.clear_histograms()

    def close(self) -> None:
        """Close the event file, if anything was written."""
        # Do not create an empty event file only to close it.
        if "_writer" in self.__dict__:
            self._writer.close()


class CommonMetricPrinter(EventWriter):
    """Writer of a log line: losses, iteration time, remaining time, learning rate, GPU memory.

    Args:
        max_iter: the last iteration, for the remaining time; None omits that.
        window_size: iterations of the smoothing window of losses.
    """

    def __init__(self, max_iter: int | None = None, window_size: int = 20) -> None:
        self.logger = logging.getLogger("detectron2.utils.events")
        self._max_iter = max_iter
        self._window_size = window_size
        self._last_write: tuple[int, float] | None = None  # iteration and time

    def write(self) -> None:
        """Log the line, except after the last iteration."""
        storage = get_event_storage()
        # The last line was logged at the last iteration already.
        if storage.iter == self._max_iter:
            return
        eta = self._get_eta(storage)
        parts = [
            f" {f'eta: {eta}  ' if eta else ''}iter: {storage.iter}",
            self._medians(storage, "loss"),
            self._medians(storage, "[metric]"),
            f"{self._times(storage)} lr: {self._learning_rate(storage)}",
            self._memory(),
        ]
        self.logger.info("  ".join(parts))

    def _get_eta(self, storage: EventStorage) -> str | None:
        if self._max_iter is None:
            return None
        remaining = self._max_iter - storage.iter - 1
        if "time" in storage.histories():
            # The median ignores slow iterations, e.g. with checkpoints.
            seconds = storage.history("time").median(1000) * remaining
            storage.put_scalar("eta_seconds", seconds, smoothing_hint=False)
            return str(datetime.timedelta(seconds=int(seconds)))
        # Without a timing hook: estimated from the time of the last line.
        before, self._last_write = self._last_write, (storage.iter, time.perf_counter())
        if before is None or before[0] == storage.iter:
            return None
        pace = (self._last_write[1] - before[1]) / (storage.iter - before[0])
        return str(datetime.timedelta(seconds=int(pace * remaining)))

    def _medians(self, storage: EventStorage, mark: str) -> str:
        return "  ".join(
            f"{name}: {values.median(storage.count_samples(name, self._window_size)):.4g}"
            for name, values in storage.histories().items()
            if mark in name
        )

    def _times(self, storage: EventStorage) -> str:
        histories, line = storage.histories(), ""
        if "time" in histories:
            time_ = histories["time"]
            line += f"time: {time_.global_avg():.4f}  last_time: {time_.latest():.4f}  "
        if "data_time" in histories:
            data = histories["data_time"]
            average = data.avg(storage.count_samples("data_time", self._window_size))
            line += f"data_time: {average:.4f}  last_data_time: {data.latest():.4f}  "
        return line

    @staticmethod
    def _learning_rate(storage: EventStorage) -> str:
        histories = storage.histories()
        return f"{histories['lr'].latest():.5g}" if "lr" in histories else "N/A"

    @staticmethod
    def _memory() -> str:
        if not torch.cuda.is_available():
            return ""
        return f"max_mem: {torch.cuda.max_memory_allocated() / 2**20:.0f}M"
