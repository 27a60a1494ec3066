"""A camera watched by a model, in a window where there is one, and as a video."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from d2ext.errors import DataError
from d2ext.inference.timing import Stopwatch
from d2ext.inference.video import WRITTEN, Video, open_camera, write_video

PictureOf = Callable[[np.ndarray, Stopwatch], np.ndarray]  # of an RGB frame

TITLE = "d2ext: q stops"


def watch(
    index: int, output: Path, picture_of: Callable[[np.ndarray, Stopwatch], np.ndarray]
) -> None:
    """Show and write what a camera sees until q is pressed in the window, or Ctrl-C.

    Args:
        index: of the camera, from 0.
        output: folder of camera_<index>.mp4.
        picture_of: makes the picture, (H, W, 3) RGB, of a frame.
    Raises:
        UserError: there is no such camera, or it gives nothing.
    """
    path, stopwatch = output / f"camera_{index}{WRITTEN}", Stopwatch()
    with open_camera(index) as video:
        window = _open_window()
        print("stop by q in the window or Ctrl-C" if window else "no window; stop by Ctrl-C")
        try:
            with write_video(path, video.rate) as write:
                _loop(video, stopwatch, picture_of, write, window)
                if not stopwatch.rounds:
                    raise DataError(f"--camera {index}: the camera gives no picture.")
        finally:
            if window:
                cv2.destroyAllWindows()
    print(f"{stopwatch.summary('frames')}; {path}")


def _loop(
    video: Video,
    stopwatch: Stopwatch,
    picture_of: PictureOf,
    write: Callable[[np.ndarray], None],
    window: bool,
) -> None:
    start, written = time.perf_counter(), 0
    try:
        while True:
            with stopwatch.part("read"):
                frame = video.read()
            if frame is None:
                return
            picture = picture_of(frame, stopwatch)
            with stopwatch.part("write"):
                # As often as keeps the video as long as what it shows, however slow the model.
                due = int((time.perf_counter() - start) * video.rate) + 1 - written
                for _ in range(due):
                    write(picture)
                written += max(0, due)
            stopwatch.rounds += 1
            if window and _show(picture) == "q":
                return
    except KeyboardInterrupt:
        print()


def _open_window() -> bool:
    """Whether there is a display and an OpenCV that can use it."""
    display = sys.platform in ("win32", "darwin") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if not display:
        return False
    try:
        cv2.namedWindow(TITLE)
    except cv2.error:  # opencv-python-headless
        return False
    return True


def _show(picture: np.ndarray) -> str:
    """The key that is pressed, "" for none."""
    cv2.imshow(TITLE, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    key = cv2.waitKey(1)
    return chr(key & 0xFF) if key >= 0 else ""
