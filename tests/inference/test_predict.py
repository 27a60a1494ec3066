import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torch import nn

from d2ext.cli.demo import argument_parser, main
from d2ext.errors import ConfigError, WeightsError
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, Instances


@META_ARCH_REGISTRY.register()
class LeftHalfFinder(nn.Module):
    """Finds the left half with a score of 0.9, the right with 0.3, in images of any size."""

    def __init__(self, cfg):
        super().__init__()
        self.red = nn.Parameter(torch.zeros(cfg.MODEL.RETINANET.NUM_CLASSES))
        self.channel = "BGR".index("R") if cfg.INPUT.FORMAT == "BGR" else 0

    def forward(self, batch):
        return [{"instances": self.find(item)} for item in batch]

    def find(self, item):
        height, width = item["height"], item["width"]
        assert item["image"].shape[0] == 3
        found = Instances((height, width))
        half = width / 2
        found.pred_boxes = Boxes(
            torch.tensor([[0.0, 0.0, half, height], [half, 0.0, width, height]])
        )
        found.scores = torch.tensor([0.9, 0.3])
        found.pred_classes = torch.tensor([1, 0])
        reddish = item["image"][self.channel].float().mean() > 128
        return found if reddish else found[:0]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Calls the command in a folder with a config, weights and a red image; returns the JSON."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("MODEL: {META_ARCHITECTURE: LeftHalfFinder}\n")
    weights = {"model": {"red": torch.zeros(2)}, "thing_classes": ["кот", "dog"]}
    torch.save(weights, tmp_path / "weights.pth")
    save("red.png", 100, 80)

    def call(*inputs, options=(), weights=("MODEL.WEIGHTS", "weights.pth"), status=0):
        base = ["--config-file", "config.yaml", "--input", *map(str, inputs), "--output", "out"]
        assert main([*base, *options, "MODEL.DEVICE", "cpu", *weights]) == status
        return read()

    return call


def save(path, width, height, color=(255, 0, 0), **options):
    Image.new("RGB", (width, height), color).save(path, **options)


def read():
    with open("out/predictions.json", encoding="utf-8") as file:
        return json.load(file)


def test_the_json_holds_boxes_scores_and_the_names_stored_with_the_weights(run):
    result = run("red.png")
    assert result["classes"] == ["кот", "dog"]
    assert result["images"] == [
        {
            "file": "red.png",
            "picture": "red.png",
            "width": 100,
            "height": 80,
            "detections": [
                {"box": [0, 0, 50, 80], "score": 0.9, "class_id": 1, "class_name": "dog"}
            ],
        }
    ]


def test_confidence_decides_what_is_kept(run):
    detections = run("red.png", options=["--confidence", "0.2"])["images"][0]["detections"]
    assert [d["class_name"] for d in detections] == ["dog", "кот"]


def test_the_model_sees_red_as_red_in_either_channel_order(run):
    save("blue.png", 100, 80, (0, 0, 255))
    for channels in ("RGB", "BGR"):
        result = run(
            "red.png",
            "blue.png",
            weights=["MODEL.WEIGHTS", "weights.pth", "INPUT.FORMAT", channels],
        )
        assert [len(image["detections"]) for image in result["images"]] == [1, 0]


def test_the_config_asks_for_test_time_augmentation(run):
    options = ["TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "(40,)"]
    weights = ["MODEL.WEIGHTS", "weights.pth", *options]
    detections = run("red.png", weights=weights)["images"][0]["detections"]
    # In the mirrored view the right half is the left one.
    assert sorted(d["box"] for d in detections) == [[0, 0, 50, 80], [50, 0, 100, 80]]


def test_the_picture_is_drawn_on_and_small_images_are_enlarged(run):
    run("red.png")
    picture = np.asarray(Image.open("out/red.png").convert("RGB"))
    assert picture.shape == (480, 600, 3)
    drawn = (picture != (255, 0, 0)).any(-1)
    assert drawn[:, :303].any()
    assert not drawn[:, 303:].any()


@META_ARCH_REGISTRY.register()
class RowLabeller(nn.Module):
    """Labels the upper quarter of every image with class 1, the rest with class 0."""

    def __init__(self, cfg):
        super().__init__()
        self.red = nn.Parameter(torch.zeros(2))

    def forward(self, batch):
        (item,) = batch
        logits = torch.zeros(2, item["height"], item["width"])
        logits[0], logits[1, : item["height"] // 4] = 2.0, 9.0
        return [{"sem_seg": logits}]


def test_semantic_logits_give_one_detection_per_class(run, tmp_path):
    (tmp_path / "config.yaml").write_text("MODEL: {META_ARCHITECTURE: RowLabeller}\n")
    (image,) = run("red.png")["images"]
    found = {item["class_name"]: item for item in image["detections"]}
    assert found["dog"]["box"] == [0, 0, 100, 20]
    assert found["кот"]["box"] == [0, 20, 100, 80]
    assert coco_mask.area(found["dog"]["mask"]) == 2000
    pixels = np.asarray(Image.open(tmp_path / "out" / "red.png"))
    assert tuple(pixels[pixels.shape[0] * 3 // 5, 300]) != (255, 0, 0)


def test_large_images_keep_their_size(run):
    save("large.jpg", 1200, 700)
    run("large.jpg")
    assert Image.open("out/large.jpg").size == (1200, 700)


def test_exif_rotation_is_applied(run):
    exif = Image.Exif()
    exif[0x0112] = 6  # stands upright after a quarter turn
    save("turned.jpg", 90, 40, exif=exif)
    (image,) = run("turned.jpg")["images"]
    assert (image["width"], image["height"]) == (40, 90)
    assert image["detections"][0]["box"] == [0, 0, 20, 90]


def test_inputs_of_one_name_keep_their_own_pictures(run, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save(tmp_path / name / "ü 1.png", 50, 50)
    result = run("a/ü 1.png", "b/ü 1.png")
    assert [image["picture"] for image in result["images"]] == ["ü 1.png", "ü 1_2.png"]
    assert all((tmp_path / "out" / image["picture"]).is_file() for image in result["images"])


def test_an_unreadable_image_is_named_after_the_others_are_done(run, tmp_path, capsys):
    (tmp_path / "text.jpg").write_bytes(b"no image")
    save("whole.jpg", 100, 80)
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:600])
    run("text.jpg", "red.png", "half.jpg", status=1)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "2 of 3 files left out:"
    assert [line.split()[0] for line in said[1:]] == ["text.jpg", "half.jpg"]
    assert [image["file"] for image in read()["images"]] == ["red.png"]


def save_video(path, count=3, rate=10.0):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (100, 80))
    for _ in range(count):
        writer.write(np.full((80, 100, 3), (0, 0, 255), np.uint8))
    writer.release()


def test_every_frame_of_a_video_is_predicted_on_and_the_rate_kept(run, tmp_path, capsys):
    save_video(tmp_path / "clip.mp4")
    result = run("clip.mp4", "red.png")
    (video,) = result["videos"]
    assert {key: video[key] for key in ("file", "video", "frame_rate", "width", "height")} == {
        "file": "clip.mp4",
        "video": "clip.mp4",
        "frame_rate": 10.0,
        "width": 100,
        "height": 80,
    }
    assert [frame["frame"] for frame in video["frames"]] == [0, 1, 2]
    assert all(frame["detections"][0]["class_name"] == "dog" for frame in video["frames"])
    assert [image["file"] for image in result["images"]] == ["red.png"]
    written = cv2.VideoCapture("out/clip.mp4")
    assert (written.get(cv2.CAP_PROP_FPS), written.get(cv2.CAP_PROP_FRAME_COUNT)) == (10.0, 3)
    assert written.read()[1].shape == (480, 600, 3)
    printed = capsys.readouterr().out
    assert "4 detections in 1 images and 3 frames" in printed
    assert "a second; ms each: read " in printed


def test_a_folder_gives_its_videos_too_and_a_broken_one_is_named(run, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    save_video(tmp_path / "in" / "clip.avi")
    (tmp_path / "in" / "bad.mp4").write_bytes(b"nothing")
    run("in", status=1)
    assert "bad.mp4: cannot be read" in capsys.readouterr().err
    assert [video["video"] for video in read()["videos"]] == ["clip.mp4"]
    assert not (tmp_path / "out" / "bad.mp4").exists()


def test_a_camera_that_is_not_there_is_one_message(run):
    words = ["--config-file", "config.yaml", "--camera", "97", "--output", "out"]
    with pytest.raises(ConfigError, match="--camera 97: no camera"):
        main([*words, "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "weights.pth"])


def test_the_number_of_classes_follows_the_weights(run, tmp_path):
    weights = {"model": {"red": torch.zeros(5)}, "thing_classes": list("abcde")}
    torch.save(weights, tmp_path / "five.pth")
    assert run("red.png", weights=["MODEL.WEIGHTS", "five.pth"])["classes"] == list("abcde")


def test_classes_without_names_are_numbered(run, tmp_path):
    torch.save({"model": {"red": torch.zeros(80)}}, tmp_path / "foreign.pth")
    result = run("red.png", weights=["MODEL.WEIGHTS", "foreign.pth"])
    assert result["classes"] == []
    assert result["images"][0]["detections"][0]["class_name"] == "class 1"


@pytest.mark.parametrize("weights", [[], ["MODEL.WEIGHTS", "none.pth"]])
def test_missing_weights_are_one_message_before_any_work(run, tmp_path, weights):
    with pytest.raises(WeightsError, match=r"MODEL\.WEIGHTS"):
        run("red.png", weights=weights)
    assert not (tmp_path / "out").exists()


def test_weights_of_another_model_are_refused(run, tmp_path):
    torch.save({"model": {"stem.weight": torch.zeros(3)}}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth"):
        run("red.png", weights=["MODEL.WEIGHTS", "other.pth"])


def test_a_confidence_outside_of_0_and_1_is_refused(run):
    with pytest.raises(ConfigError, match="0 to 1, got 50"):
        run("red.png", options=["--confidence", "50"])


def test_help_shows_an_example():
    assert "python tools/demo.py --config-file" in argument_parser().format_help()


@META_ARCH_REGISTRY.register()
class BrightnessFinder(LeftHalfFinder):
    """Finds the same where an image of one channel is as bright as red is."""

    def find(self, item):
        assert item["image"].shape[0] == 1
        assert int(item["image"].float().mean()) == 76
        return super().find({**item, "image": (item["image"] * 3).expand(3, -1, -1)})


def test_a_model_of_one_channel_predicts(run, tmp_path):
    (tmp_path / "config.yaml").write_text("MODEL: {META_ARCHITECTURE: BrightnessFinder}\n")
    result = run("red.png", weights=["MODEL.WEIGHTS", "weights.pth", "INPUT.FORMAT", "L"])
    assert len(result["images"][0]["detections"]) == 1


def test_a_deep_image_is_predicted_on_as_it_is_trained_on(run):
    Image.fromarray((np.arange(64 * 64).reshape(64, 64) * 9).astype(np.uint16)).save("deep.png")
    assert run("deep.png")["images"][0]["width"] == 64
    assert np.asarray(Image.open("out/deep.png").convert("L")).std() > 20
