"""Read videos and cameras, and write videos, with OpenCV."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from d2ext.errors import ConfigError, DataError, OutputError
from d2ext.files import replacing

SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
WRITTEN = ".mp4"
CODEC = "mp4v"
_RATE = 25.0  # frames per second where a file or camera does not state it


class Video:
    """A source of frames.

    Args:
        capture: opened by OpenCV.
    Attributes:
        rate: frames per second.
        count: number of frames that the file states; 0 if it does not.
    """

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self.capture = capture
        rate, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        # Damaged files and some cameras report 0, NaN or absurd numbers.
        self.rate = rate if math.isfinite(rate) and 0 < rate <= 1000 else _RATE
        self.count = max(0, int(count)) if math.isfinite(count) else 0

    def read(self) -> np.ndarray | None:
        """Return the next frame, (H, W, 3) RGB uint8; None at the end."""
        good, frame = self.capture.read()
        return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) if good else None

    def frames(self) -> Iterator[np.ndarray]:
        """Yield the frames that `read` returns, to the end."""
        while (frame := self.read()) is not None:
            yield frame


@contextmanager
def open_video(path: Path) -> Iterator[Video]:
    """Open a video file for reading.

    Raises:
        DataError: OpenCV cannot read it.
    """
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise DataError(
                f"{path}: cannot be read as a video; the file is damaged, or the OpenCV here "
                "has no decoder for it. Convert it, e.g. by ffmpeg -i IN -c:v libx264 OUT.mp4."
            )
        yield Video(capture)
    finally:
        capture.release()


@contextmanager
def open_camera(index: int) -> Iterator[Video]:
    """Open a camera of this machine.

    Raises:
        ConfigError: there is no camera of this number.
    """
    capture = cv2.VideoCapture(index)
    try:
        if not capture.isOpened():
            raise ConfigError(
                f"--camera {index}: no camera of this number, or another program uses it. The "
                "first is 0."
            )
        yield Video(capture)
    finally:
        capture.release()


class FrameWriter(Protocol):
    """Writes (H, W, 3) RGB uint8 frames, all of the size of the first."""

    def __call__(self, frame: np.ndarray) -> None: ...


@contextmanager
def write_video(path: Path, rate: float, wanted: bool = True) -> Iterator[FrameWriter]:
    """Open a video file for writing; it gets its name when it is complete.

    Args:
        rate: frames per second.
        wanted: False writes nothing.
    Raises:
        OutputError: OpenCV cannot write it.
        DataError: no frame was written.
    """
    if not wanted:
        yield lambda frame: None
        return
    writers: list[cv2.VideoWriter] = []  # opened with the first frame, whose size it needs
    with replacing(path) as temporary:

        def write(frame: np.ndarray) -> None:
            if not writers:
                writers.append(_open_writer(temporary, path, rate, frame.shape[:2]))
            writers[0].write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

        try:
            yield write
        finally:
            for writer in writers:
                writer.release()
        if not writers:
            raise DataError(f"{path}: there is no frame to write.")


def _open_writer(
    temporary: Path, path: Path, rate: float, size: tuple[int, ...]
) -> cv2.VideoWriter:
    height, width = size
    codec = cv2.VideoWriter.fourcc(*CODEC)
    writer = cv2.VideoWriter(str(temporary), codec, rate, (width, height))
    if not writer.isOpened():
        raise OutputError(
            f"{path}: the OpenCV here cannot write MP4 (codec {CODEC}), or the folder cannot be "
            "written to. The packages opencv-python and opencv-python-headless of PyPI can."
        )
    return writer
