"""nuScenes' folders by name in the catalog: samples, classes, statistics and evaluator."""

from pathlib import Path

import pytest

import d2ext
import d2ext.projects.detr3d
from d2ext.data.catalog import DatasetSpec, register_dataset
from d2ext.data.statistics import dataset_stats
from d2ext.projects.detr3d.data.classes import CLASSES
from d2ext.projects.detr3d.data.made_up import write_made_up
from d2ext.projects.detr3d.data.mapper import CameraMapper
from d2ext.projects.detr3d.data.splits import MINI_VALIDATION, VALIDATION, split_scenes
from detectron2.data import DatasetCatalog, MetadataCatalog

FOLDER = Path(d2ext.__file__).parents[1] / "tests/parity/nuscenes_mini/data"


@pytest.fixture
def name():
    name = "detr3d_test_val"
    register_dataset(name, DatasetSpec(str(FOLDER), split="val"))
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def test_a_registered_folder_has_samples_and_names_its_evaluator(name):
    items = DatasetCatalog.get(name)
    assert len(items) == 6
    assert MetadataCatalog.get(name).evaluator_type == "nuscenes"
    assert MetadataCatalog.get(name).thing_classes == list(CLASSES)


def test_statistics_count_boxes_in_space(name):
    stats = dataset_stats([name])
    assert stats.annotated == {"boxes in space"}
    assert stats.class_counts.tolist() == [15, 15, 14, 29, 14, 9, 12, 8, 11, 8]


def test_the_splits_have_the_published_sizes():
    assert (len(VALIDATION), len(MINI_VALIDATION)) == (150, 2)
    names = ["scene-0001", "scene-0103", "scene-0003"]
    assert split_scenes("v1.0-trainval", names) == {"train": names[:1], "val": names[1:]}
    assert split_scenes("v1.0-mini", names)["val"] == names[1:2]
    assert split_scenes("v1.0-test", names) == {"test": names}


def test_made_up_scenes_are_read_and_mapped(tmp_path):
    write_made_up(tmp_path, train_scenes=1, validation_length=1)
    register_dataset("detr3d_test_train", DatasetSpec(str(tmp_path), split="train"))
    items = DatasetCatalog.get("detr3d_test_train")
    DatasetCatalog.remove("detr3d_test_train")
    assert len(items) == 4
    point_range = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0)
    sample = CameraMapper("BGR", point_range, distort=True, annotated=True)(items[0])
    assert sample["image"].shape == (6, 3, 96, 160)
    assert len(sample["instances"]) == len(items[0]["annotations"]) > 0
