"""Data sets of a run are read as what the model learns, with the classes that it learns."""

import json

import numpy as np
import pytest
from PIL import Image

import d2ext.modeling  # noqa: F401  (registers)
from d2ext.config import get_cfg, load_config
from d2ext.data.catalog import replace_datasets
from d2ext.data.dataset_paths import register_specs
from d2ext.engine.align_classes import align_classes
from d2ext.engine.align_tasks import align_tasks
from d2ext.engine.compatibility import check_compatibility
from d2ext.errors import ConfigError, DataError
from detectron2.data import DatasetCatalog
from tests.helpers.dataset_folders import save_image, write
from tests.helpers.panoptic_data import write_panoptic

QUAD = "0 0.5 0.1 0.9 0.5 0.5 0.9 0.1 0.5\n"
PENTAGON = "0 0.5 0.1 0.9 0.5 0.5 0.9 0.1 0.5 0.2 0.3\n"
BOX = "0 0.5 0.5 0.5 0.5\n"


@pytest.fixture(autouse=True)
def _data_sets_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.setenv("D2EXT_CACHE", str(tmp_path / "cache"))
    yield
    replace_datasets([])


def yolo(folder, labels):
    save_image(folder / "images" / "a.png")
    write(folder / "labels" / "a.txt", labels)
    write(folder / "labels" / "classes.txt", "cat\n")
    return folder


def using(cfg, **places):
    """The config with data sets registered by name, TRAIN without a "val", TEST with it."""
    entries = [{"name": name, "path": str(path)} for name, path in places.items()]
    replace_datasets(entries)
    cfg.DATASETS.REGISTER = entries
    cfg.DATASETS.TRAIN = tuple(name for name in places if "val" not in name)
    cfg.DATASETS.TEST = tuple(name for name in places if "val" in name)
    register_specs(entries)
    return cfg


@pytest.mark.parametrize("eval_only", [True, False])
@pytest.mark.parametrize(
    ("config", "labels", "task"),
    [
        ("rotated_fcos_lite0", PENTAGON, "rotated"),
        ("rotated_fcos_lite0", QUAD, None),
        ("rotated_fcos_lite0", BOX, None),  # which its evaluator takes as they are
        ("atss_lite0", PENTAGON, None),
    ],
)
def test_what_the_model_learns_decides_how_its_data_are_read(
    config, labels, task, eval_only, tmp_path
):
    cfg = using(load_config(f"configs/{config}.yaml"), val=yolo(tmp_path, labels))
    (entry,) = align_tasks(cfg, eval_only)
    assert entry.get("task") == task


def test_four_corners_are_masks_where_a_model_of_masks_is_evaluated(tmp_path):
    cfg = using(load_config("configs/mask_rcnn_lite0.yaml"), val=yolo(tmp_path, QUAD))
    assert [entry.get("task") for entry in align_tasks(cfg, eval_only=True)] == ["masks"]


@pytest.mark.parametrize("config", ["mask_rcnn_lite0", "keypoint_rcnn_lite0"])
def test_data_of_boxes_alone_evaluate_boxes_but_teach_no_more(config, tmp_path):
    from d2ext.data import dataset_stats

    cfg = using(load_config(f"configs/{config}.yaml"), val=yolo(tmp_path, BOX))
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 1
    stats = dataset_stats(["val"])
    check_compatibility(cfg, stats, eval_only=True)
    with pytest.raises(ConfigError, match=r"learns (masks|keypoints)"):
        check_compatibility(cfg, stats)


def coloured(folder, *colours):
    save_image(folder / "images" / "a.png", len(colours), 1)
    (folder / "masks").mkdir()
    Image.fromarray(np.array([colours], np.uint8)).save(folder / "masks" / "a.png")
    return folder


def test_colours_of_masks_mean_the_same_in_all_data_sets(tmp_path):
    black, green, red = (0, 0, 0), (0, 255, 0), (255, 0, 0)
    places = {
        "train": coloured(tmp_path / "a", black, green, red),
        "val": coloured(tmp_path / "b", red, black),
    }
    cfg = using(get_cfg(), **places)
    classes, (note,) = align_classes(cfg, eval_only=False)
    assert note.startswith("val: classes matched by name")
    register_specs(cfg.DATASETS.REGISTER, classes)
    (image,) = DatasetCatalog.get("val")
    assert np.asarray(Image.open(image["sem_seg_file_name"])).tolist() == [[2, 0]]


def test_panoptic_data_of_another_order_of_classes_are_refused(tmp_path):
    places = {"train": write_panoptic(tmp_path / "a"), "val": write_panoptic(tmp_path / "b")}
    assert align_classes(using(get_cfg(), **places), eval_only=False) == ([], [])
    document = json.loads(places["val"].read_text())
    first, second, *_ = document["categories"]
    first["name"], second["name"] = second["name"], first["name"]
    places["val"].write_text(json.dumps(document))
    with pytest.raises(DataError, match="their order differs"):
        align_classes(using(get_cfg(), **places), eval_only=False)
