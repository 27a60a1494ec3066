"""Tracking: the algorithm on boxes, and the command and the API on a made-up video."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import d2ext
from d2ext.cli.demo import main
from d2ext.errors import ConfigError
from d2ext.inference.tracking import ByteTracker, frame_order
from d2ext.visualization.drawing import color_of
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, Instances, RotatedBoxes


def box(x, y, side=20.0):
    return [x, y, x + side, y + side]


def numbers(tracker, *boxes, scores=None):
    scores = np.full(len(boxes), 0.9) if scores is None else np.array(scores)
    return tracker.update(np.array(boxes, dtype=np.float64).reshape(-1, 4), scores).tolist()


def test_objects_that_pass_each_other_keep_their_numbers_by_their_speed():
    tracker = ByteTracker(0.5)
    for frame in range(30):  # towards each other, side by side in the middle, and apart
        found = numbers(tracker, box(4 * frame, 0), box(116 - 4 * frame, 12))
        assert found == [1, 2]


def test_an_object_is_found_again_where_its_speed_has_taken_it():
    tracker = ByteTracker(0.5)
    for frame in range(10):
        numbers(tracker, box(6 * frame, 0))
    for _ in range(8):  # 48 pixels behind something: boxes of 20 pixels do not overlap any more
        assert numbers(tracker) == []
    assert numbers(tracker, box(6 * 18, 0)) == [1]


def test_an_object_that_is_away_for_more_than_a_second_is_a_new_one():
    tracker = ByteTracker(0.5, rate=5.0)
    assert numbers(tracker, box(0, 0)) == [1]
    for _ in range(6):
        numbers(tracker)
    assert numbers(tracker, box(0, 0)) == [2]


def test_a_low_score_continues_a_track_and_starts_none():
    tracker = ByteTracker(0.5)
    numbers(tracker, box(0, 0))
    assert numbers(tracker, box(1, 0), box(100, 0), scores=[0.2, 0.2]) == [1, -1]
    assert numbers(tracker, box(2, 0), scores=[0.05]) == [-1]


def test_the_sum_of_overlaps_decides_and_none_is_given_up_for_less():
    tracker = ByteTracker(0.5)
    numbers(tracker, box(0, 0), box(10, 0))
    assert numbers(tracker, box(10, 0), box(0, 0)) == [2, 1]
    assert numbers(tracker, box(300, 0), box(0, 0)) == [3, 1]


def test_boxes_without_an_area_do_no_harm():
    tracker = ByteTracker(0.5)
    for _ in range(3):
        assert numbers(tracker, [5, 5, 5, 5], box(50, 50))[1] == 2


def test_frames_are_ordered_by_their_numbers():
    files = [Path("b/10.jpg"), Path("b/9.jpg"), Path("a/f_100.jpg"), Path("a/f_20.jpg")]
    names = [path.as_posix() for path in sorted(files, key=frame_order)]
    assert names == ["a/f_20.jpg", "a/f_100.jpg", "b/9.jpg", "b/10.jpg"]


@META_ARCH_REGISTRY.register()
class SquareFinder(nn.Module):
    """Finds the box around the red pixels, and that around the blue ones, in random order."""

    def __init__(self, cfg):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.order = np.random.default_rng(0)
        self.rotated = cfg.MODEL.MASK_ON  # a key that this model has no other use for

    def forward(self, batch):
        return [{"instances": self.find(item)} for item in batch]

    def find(self, item):
        blue, _, red = item["image"]
        scale = item["width"] / item["image"].shape[2]
        found = []
        for pixels in (red > 128, blue > 128):
            ys, xs = pixels.nonzero(as_tuple=True)
            found += [[v * scale for v in (xs.min(), ys.min(), xs.max(), ys.max())]]
        boxes = torch.tensor(found)[self.order.permutation(2).tolist()]
        instances = Instances((item["height"], item["width"]))
        instances.pred_boxes = self.as_rotated(boxes) if self.rotated else Boxes(boxes)
        instances.scores, instances.pred_classes = torch.tensor([0.9, 0.8]), torch.zeros(2).long()
        return instances

    def as_rotated(self, boxes):
        centers, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        return RotatedBoxes(torch.cat((centers, sizes, torch.zeros(2, 1)), dim=1))


def frames(count=8):
    """A red square that moves right, below a blue one that moves left."""
    for number in range(count):
        frame = np.zeros((96, 160, 3), np.uint8)
        frame[20:44, 136 - 9 * number : 160 - 9 * number, 2] = 255
        frame[50:74, 9 * number : 9 * number + 24, 0] = 255
        yield frame


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a model, clip.mp4 and the same frames in frames/, and a still in other/."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(
        "MODEL: {META_ARCHITECTURE: SquareFinder}\nINPUT: {MIN_SIZE_TEST: 96}\n"
    )
    torch.save({"model": {"weight": torch.zeros(1)}, "thing_classes": ["square"]}, "weights.pth")
    writer = cv2.VideoWriter("clip.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (160, 96))
    (tmp_path / "frames").mkdir()
    (tmp_path / "other").mkdir()
    for number, frame in enumerate(frames()):
        writer.write(frame[..., ::-1])
        Image.fromarray(frame).save(f"frames/{number + 5}.png")  # 5.png ... 12.png
    writer.release()
    Image.fromarray(frame).save("other/1.png")
    return tmp_path


def demo(*inputs, options=()):
    words = ["--config-file", "config.yaml", "--weights", "weights.pth", "--device", "cpu"]
    main([*words, "--track", "--quiet", "--output", "out", "--input", *inputs, *options])
    return json.loads(Path("out/predictions.json").read_text(encoding="utf-8"))


def rows_of(frame):
    """Number of each track -> whether it is the upper, blue square."""
    return {found["track_id"]: found["box"][1] < 40 for found in frame["detections"]}


@pytest.mark.parametrize("options", [(), ("MODEL.MASK_ON", "True")], ids=["upright", "rotated"])
def test_objects_keep_their_numbers_over_a_video(folder, options):
    (video,) = demo("clip.mp4", options=options)["videos"]
    rows = [rows_of(frame) for frame in video["frames"]]
    assert len(rows) == 8
    assert set(rows[0]) == {1, 2}
    if not options:  # rotated boxes begin with their centre
        assert all(row == rows[0] for row in rows)
    lines = Path("out/predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert {found["track_id"] for found in json.loads(lines[-1])["detections"]} == {1, 2}


def test_a_folder_of_frames_is_a_video_and_each_folder_another(folder):
    images = demo("other", "frames", options=("--format", "coco"))["images"]
    rows = {Path(image["file"]).as_posix(): rows_of(image) for image in images}
    assert len(rows) == 9
    assert all(set(row) == {1, 2} for row in rows.values())
    assert len({str(sorted(rows[f"frames/{n}.png"].items())) for n in range(5, 13)}) == 1
    coco = json.loads(Path("out/predictions_coco.json").read_text(encoding="utf-8"))
    assert {each["track_id"] for each in coco["annotations"]} == {1, 2}


def test_each_track_is_drawn_in_its_own_colour(folder):
    image = demo("frames")["images"][0]
    picture = np.asarray(Image.open(Path("out") / image["picture"]))
    for number in (1, 2):
        assert (picture == color_of(number, {})).all(-1).any()
    assert not (picture == color_of(0, {})).all(-1).any()  # that of the class


def rows_drawn(picture, number):
    """Mean row of what is drawn in a track's colour."""
    return (picture == color_of(number, {})).all(-1).any(1).nonzero()[0].mean()


class Camera:
    """Shows the frames, then ends."""

    def __init__(self, index):
        self.frames = (frame[..., ::-1].copy() for frame in frames())

    def isOpened(self):
        return True

    def get(self, key):
        return 10.0 if key == cv2.CAP_PROP_FPS else 0.0

    def read(self):
        frame = next(self.frames, None)
        return frame is not None, frame

    def release(self):
        pass


def test_the_objects_of_a_camera_keep_their_colours(folder, monkeypatch):
    shown = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(cv2, "namedWindow", lambda title: None)
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: None)
    monkeypatch.setattr(cv2, "waitKey", lambda milliseconds: -1)
    monkeypatch.setattr(cv2, "imshow", lambda title, picture: shown.append(picture[..., ::-1]))
    words = ["--config-file", "config.yaml", "--weights", "weights.pth", "--device", "cpu"]
    main([*words, "--track", "--camera", "0", "--output", "out"])
    assert len(shown) == 8
    upper = [rows_drawn(picture, 1) < rows_drawn(picture, 2) for picture in shown]
    assert upper == [upper[0]] * 8
    assert Path("out/camera_0.mp4").stat().st_size > 0


def test_the_python_api_tracks_files_folders_and_frames(folder):
    model = d2ext.load("weights.pth", config="config.yaml", device="cpu")
    for source in ("clip.mp4", "frames", frames()):
        found = list(model.track(source))
        assert len(found) == 8
        rows = [rows_of({"detections": each.as_json()}) for each in found]
        assert all(row == rows[0] for row in rows)
        assert found[-1].instances.track_ids.tolist() in ([1, 2], [2, 1])


def test_track_numbers_reach_supervision(folder):
    pytest.importorskip("supervision")
    model = d2ext.load("weights.pth", config="config.yaml", device="cpu")
    found = next(model.track("frames"))
    assert found.to_supervision().tracker_id.tolist() == found.instances.track_ids.tolist()


def test_a_model_that_labels_pixels_cannot_track(folder, monkeypatch):
    monkeypatch.setattr(
        SquareFinder, "forward", lambda self, batch: [{"sem_seg": torch.zeros(2, 96, 160)}]
    )
    with pytest.raises(ConfigError, match=r"--track: the model labels pixels"):
        demo("frames")
