"""Panoptic data as samples for each kind of model."""

import numpy as np
import pytest
import torch

from d2ext.config import get_cfg
from d2ext.data.dataset_paths import register_specs
from d2ext.data.loader import seeded
from d2ext.data.mappers import build_mapper
from detectron2.data import DatasetCatalog, MetadataCatalog
from tests.helpers.panoptic_data import segment_ids, write_panoptic


@pytest.fixture
def cfg(tmp_path, request):
    name = f"panoptic_mapper_{request.node.name}"
    register_specs([{"name": name, "path": str(write_panoptic(tmp_path))}])
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = [name]
    cfg.MODEL.MASK_ON = True
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = (48,), "none"
    yield cfg
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def sample(cfg, mapper: str, mode="train") -> dict:
    cfg.DATALOADER.MAPPER = mapper
    item = DatasetCatalog.get(cfg.DATASETS.TRAIN[0])[0]  # also fills the metadata
    return build_mapper(cfg, mode)(item)


@pytest.mark.parametrize("mode", ["train", "validation"])
def test_panoptic_models_get_things_and_stuff(cfg, mode):
    cfg.INPUT.MIN_SIZE_TEST = 48
    found = sample(cfg, "panoptic", mode)["instances"]
    assert found.gt_classes.tolist() == [0, 2, 1, 3, 3]
    ids = torch.from_numpy(segment_ids(0))
    for mask, number in zip(found.gt_masks.tensor, (700, 70000, 1, 2, 3), strict=True):
        torch.testing.assert_close(mask, ids == number)


def test_instance_models_get_things_with_numbers_of_their_own(cfg):
    found = sample(cfg, "default")["instances"]
    assert found.gt_classes.tolist() == [0, 1, 1]
    assert found.gt_boxes.tensor[0].tolist() == [8, 4, 24, 16]


def test_detectors_without_masks_get_boxes_of_things(cfg):
    cfg.MODEL.MASK_ON = False
    found = sample(cfg, "default")["instances"]
    assert found.gt_boxes.tensor[0].tolist() == [8, 4, 24, 16]
    assert not found.has("gt_masks")


def test_semantic_models_get_the_category_of_each_pixel(cfg):
    labels = sample(cfg, "default")["sem_seg"]
    expected = np.select(
        [segment_ids(0) == number for number in (700, 1, 70000, 2, 3)], [0, 1, 2, 3, 3], 255
    )
    np.testing.assert_array_equal(labels, expected)


def test_crowds_are_not_learned(cfg):
    cfg.DATALOADER.MAPPER = "panoptic"
    item = DatasetCatalog.get(cfg.DATASETS.TRAIN[0])[0]
    for segment in item["segments_info"]:
        segment["iscrowd"] = int(segment["id"] == 1)
    assert build_mapper(cfg, "train")(item)["instances"].gt_classes.tolist() == [0, 2, 3, 3]


def test_masks_and_labels_follow_the_same_transforms(cfg):
    cfg.INPUT.RANDOM_FLIP, cfg.INPUT.ROTATION = "horizontal", 30.0
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_VISIBLE = (80,), 0.0
    with seeded(3, 4):
        item = sample(cfg, "panoptic")
    found = item["instances"]
    assert len(found) > 3
    for mask, label in zip(found.gt_masks.tensor, found.gt_classes, strict=True):
        assert (item["sem_seg"][mask] == label).all()


def test_stuff_stays_however_little_a_crop_leaves_of_it(cfg):
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = True, "absolute", [8, 8]
    cfg.INPUT.MIN_VISIBLE = 0.9
    classes = set()
    for number in range(20):
        with seeded(number, 0):
            classes |= set(sample(cfg, "panoptic")["instances"].gt_classes.tolist())
    assert {0, 2} <= classes


def test_panoptic_fpn_gets_things_and_stuff_with_numbers_of_their_own(cfg):
    cfg.MODEL.META_ARCHITECTURE = "PanopticFPN"
    found = sample(cfg, "default")
    assert found["instances"].gt_classes.tolist() == [0, 1, 1]
    expected = np.select(
        [segment_ids(0) == number for number in (700, 1, 70000, 2, 3)], [1, 0, 2, 0, 0], 255
    )
    assert np.array_equal(found["sem_seg"].numpy(), expected)
