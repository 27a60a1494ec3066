"""Predict on the frames of a camera; show them in a window and write a video."""

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

Annotate = Callable[[np.ndarray, Stopwatch], np.ndarray]  # RGB frame -> annotated frame

TITLE = "d2ext: q stops"


def watch(index: int, output: Path, annotate: Annotate) -> None:
    """Show and record a camera's annotated frames until q is pressed in the window, or Ctrl-C.

    Args:
        index: number of the camera, from 0.
        output: folder of camera_<index>.mp4.
        annotate: maps an (H, W, 3) RGB frame to its annotated copy.
    Raises:
        UserError: there is no such camera, or it delivers no frame.
    """
    path, stopwatch = output / f"camera_{index}{WRITTEN}", Stopwatch()
    with open_camera(index) as video:
        window = _open_window()
        print("stop by q in the window or Ctrl-C" if window else "no window; stop by Ctrl-C")
        try:
            with write_video(path, video.rate) as write:
                _loop(video, stopwatch, annotate, write, window)
                if not stopwatch.rounds:
                    raise DataError(f"--camera {index}: the camera gives no picture.")
        finally:
            if window:
                cv2.destroyAllWindows()
    print(f"{stopwatch.summary('frames')}; {path}")


def _loop(
    video: Video,
    stopwatch: Stopwatch,
    annotate: Annotate,
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
            picture = annotate(frame, stopwatch)
            with stopwatch.part("write"):
                # Repeat frames of a slow model, so that the video lasts as long as reality.
                due = int((time.perf_counter() - start) * video.rate) + 1 - written
                for _ in range(due):
                    write(picture)
                written += max(0, due)  # negative if a fast model is ahead of the clock
            stopwatch.rounds += 1
            if window and _show(picture) == "q":
                return
    except KeyboardInterrupt:
        print()


def _open_window() -> bool:
    """Open a window; return False without a display or an OpenCV that can use it."""
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
    """Show a frame; return the key that is pressed, or ""."""
    cv2.imshow(TITLE, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    key = cv2.waitKey(1)
    return chr(key & 0xFF) if key >= 0 else ""
