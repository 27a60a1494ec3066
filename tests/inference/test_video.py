import cv2
import numpy as np
import pytest

from d2ext.errors import ConfigError, DataError, OutputError
from d2ext.inference.video import open_camera, open_video, write_video


def frame(red):
    return np.full((48, 64, 3), (red, 0, 0), dtype=np.uint8)


def write(path, count=5, rate=12.5, fails=False):
    with write_video(path, rate) as add:
        for number in range(count):
            add(frame(40 * number))
        if fails:
            raise ValueError("broken")


def test_what_is_written_is_read_again_in_order_colour_and_rate(tmp_path):
    write(tmp_path / "a.mp4")
    with open_video(tmp_path / "a.mp4") as video:
        assert (video.rate, video.count) == (12.5, 5)
        frames = [video.read() for _ in range(5)]
        assert video.read() is None
    assert [f.shape for f in frames] == [(48, 64, 3)] * 5
    means = np.array([f.mean((0, 1)) for f in frames])
    np.testing.assert_allclose(means[:, 0], [0, 40, 80, 120, 160], atol=6)
    np.testing.assert_allclose(means[:, 1:], 0, atol=6)


def test_a_file_that_is_no_video_is_named(tmp_path):
    (tmp_path / "b.mp4").write_bytes(b"no video")
    with (
        pytest.raises(DataError, match=r"b\.mp4: cannot be read as a video"),
        open_video(tmp_path / "b.mp4"),
    ):
        pass


def test_a_failure_leaves_what_was_there(tmp_path):
    (tmp_path / "a.mp4").write_text("before")
    with pytest.raises(ValueError, match="broken"):
        write(tmp_path / "a.mp4", fails=True)
    assert (tmp_path / "a.mp4").read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_a_missing_codec_is_one_message(tmp_path, monkeypatch):
    monkeypatch.setattr("d2ext.inference.video.CODEC", "none")
    with pytest.raises(OutputError, match=r"a\.mp4: .*cannot write MP4"):
        write(tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


def test_a_camera_that_is_not_there_is_one_message():
    with pytest.raises(ConfigError, match="--camera 97: no camera"), open_camera(97):
        pass


def test_an_unknown_frame_rate_has_a_default(monkeypatch):
    class Camera:
        def __init__(self, index):
            pass

        def isOpened(self):
            return True

        def get(self, key):
            return -1.0 if key == cv2.CAP_PROP_FRAME_COUNT else 0.0

        def release(self):
            pass

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    with open_camera(0) as video:
        assert (video.rate, video.count) == (25.0, 0)
