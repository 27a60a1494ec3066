"""The recipes for one's own data train and evaluate on data of their kind, in its own format."""

import json

import numpy as np
import pytest
from PIL import Image

from d2ext.cli.train import main
from d2ext.errors import ConfigError
from detectron2.data import DatasetCatalog, MetadataCatalog
from tests.helpers.dataset_folders import save_image, write

SIDE = 64


@pytest.fixture(autouse=True)
def _own_names(tmp_path, monkeypatch):
    monkeypatch.setenv("D2EXT_CACHE", str(tmp_path / "cache"))
    yield
    for name in {"train", "val", "test"} & set(DatasetCatalog.list()):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def train(folder, config, *more):
    """Two iterations of one image and an evaluation; the last line of metrics.json."""
    words = ["--config-file", f"configs/{config}", "--train", str(folder), "--val", "0.5", *more]
    options = {
        "MODEL.DEVICE": "cpu",
        "SOLVER.MAX_EPOCHS": 2,
        "SOLVER.IMS_PER_BATCH": 1,
        "SOLVER.AMP.ENABLED": False,
        "MODEL.RPN.POST_NMS_TOPK_TEST": 20,
        "OUTPUT_DIR": folder / "out",
    }
    main([*words, *(str(word) for pair in options.items() for word in pair)])
    lines = (folder / "out" / "metrics.json").read_text(encoding="utf-8").splitlines()
    return json.loads(lines[-1])


def images(folder):
    return [save_image(folder / "images" / f"{n}.png", SIDE, SIDE) for n in range(2)]


def test_masks_in_yolos_format(tmp_path):
    for image in images(tmp_path):
        outline = "0 0.2 0.2 0.6 0.2 0.6 0.7 0.4 0.8 0.2 0.7\n"
        write(tmp_path / "labels" / f"{image.stem}.txt", outline)
    metrics = train(tmp_path, "mask_rcnn_regnetx200m.yaml")
    assert {"bbox/AP", "segm/AP"} <= metrics.keys()


def pose(folder):
    """Two images in YOLO's format, each with an object of three keypoints."""
    for image in images(folder):
        points = "0.3 0.3 2 0.5 0.3 2 0.4 0.6 1"
        write(folder / "labels" / f"{image.stem}.txt", f"0 0.4 0.45 0.4 0.5 {points}\n")
    write(folder / "data.yaml", "train: images\nnames: [cat]\nkpt_shape: [3, 3]\n")


def test_keypoints_in_yolos_format(tmp_path):
    pose(tmp_path)
    metrics = train(tmp_path, "keypoint_rcnn_regnetx200m.yaml")
    assert {"bbox/AP", "keypoints/AP"} <= metrics.keys()


@pytest.mark.parametrize(
    ("key", "value"),
    [("MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", "17"), ("TEST.KEYPOINT_OKS_SIGMAS", "[0.1, 0.1]")],
)
def test_another_number_of_keypoints_is_refused_before_training(tmp_path, key, value):
    pose(tmp_path)
    with pytest.raises(ConfigError, match=rf"{key}.* 3"):
        train(tmp_path, "keypoint_rcnn_regnetx200m.yaml", key, value)


@pytest.mark.parametrize("model", ["rotated_faster_rcnn", "rotated_fcos"])
def test_rotated_boxes_in_dotas_format(tmp_path, model):
    for image in images(tmp_path):
        corners = "10 10 40 20 35 35 5 25 ship 0\n"
        write(tmp_path / "labelTxt" / f"{image.stem}.txt", corners)
    assert "bbox/AP" in train(tmp_path, f"{model}_regnetx200m.yaml")
    assert (tmp_path / "out" / "predictions_val.jpg").exists()


def test_semantic_masks_in_folders_and_test_data_at_the_end(tmp_path):
    for image in images(tmp_path):
        (tmp_path / "masks").mkdir(exist_ok=True)
        labels = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 2
        Image.fromarray(labels.astype(np.uint8)).save(tmp_path / "masks" / image.name)
    write(tmp_path / "classes.txt", "road\nroof\n")
    data = f"{tmp_path / 'masks'}:{tmp_path / 'images'}"
    metrics = train(tmp_path, "semantic_fpn_regnetx200m.yaml", "--test", data)
    assert "sem_seg/mIoU" in metrics
    assert (tmp_path / "out" / "inference" / "test").is_dir()
