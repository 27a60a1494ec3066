import cv2
import numpy as np
import pytest

from d2ext.errors import DataError
from d2ext.inference.camera import watch
from d2ext.inference.video import open_video


class Camera:
    """Five frames, then what `end` says."""

    end = None

    def __init__(self, index):
        self.left = 5

    def isOpened(self):
        return True

    def get(self, key):
        return 5.0 if key == cv2.CAP_PROP_FPS else 0.0

    def read(self):
        self.left -= 1
        if self.left >= 0:
            return True, np.zeros((48, 64, 3), np.uint8)
        if self.end:
            raise self.end
        return False, None

    def release(self):
        pass


def same(frame, stopwatch):
    with stopwatch.part("detect"):
        return frame


@pytest.mark.parametrize("end", [None, KeyboardInterrupt])
def test_the_video_is_whole_when_the_camera_ends_or_control_c_is_pressed(
    end, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(cv2, "VideoCapture", type("", (Camera,), {"end": end}))
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    watch(3, tmp_path, same)
    printed = capsys.readouterr().out
    assert "stop by Ctrl-C" in printed
    assert "5 frames: " in printed
    assert "camera_3.mp4" in printed
    monkeypatch.undo()
    with open_video(tmp_path / "camera_3.mp4") as video:
        assert video.rate == 5
        assert video.count >= 1  # a fast loop shows several frames in the time of one


def test_a_camera_without_a_picture_is_one_message(tmp_path, monkeypatch):
    monkeypatch.setattr(Camera, "__init__", lambda self, index: setattr(self, "left", 0))
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    with pytest.raises(DataError, match="--camera 0: the camera gives no picture"):
        watch(0, tmp_path, same)
    assert not list(tmp_path.iterdir())


def test_q_in_the_window_stops(tmp_path, monkeypatch):
    keys = iter([-1, -1, ord("q")])
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", lambda title: None)
    monkeypatch.setattr(cv2, "imshow", lambda title, picture: None)
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: None)
    monkeypatch.setattr(cv2, "waitKey", lambda milliseconds: next(keys))
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    watch(0, tmp_path, same)
    assert next(keys, None) is None
