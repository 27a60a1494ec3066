import copy

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.config import get_cfg
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, BoxMode, PolygonMasks


@pytest.fixture
def sample(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.full((20, 40, 3), (10, 20, 30), dtype=np.uint8)).save(path)
    box = {"bbox": [4, 2, 8, 6], "bbox_mode": BoxMode.XYWH_ABS}
    polygon = [[4, 2, 12, 2, 12, 8, 4, 8]]
    return {
        "file_name": str(path),
        "image_id": 1,
        "height": 20,
        "width": 40,
        "annotations": [
            {**box, "category_id": 3, "segmentation": polygon},
            {**box, "category_id": 4, "segmentation": polygon, "iscrowd": 1},
        ],
    }


@pytest.fixture
def cfg():
    cfg = get_cfg()
    cfg.INPUT.MIN_SIZE_TRAIN = (10,)
    cfg.INPUT.MIN_SIZE_TEST = 40
    cfg.INPUT.RANDOM_FLIP = "none"
    return cfg


def test_training_samples_have_image_and_instances_without_crowds(sample, cfg):
    before = copy.deepcopy(sample)
    mapped = DatasetMapper(cfg)(sample)
    assert sample == before
    assert mapped["image"].shape == (3, 10, 20)
    assert mapped["image"].dtype == torch.uint8
    assert mapped["image"][:, 0, 0].tolist() == [30, 20, 10]  # BGR
    assert "annotations" not in mapped
    instances = mapped["instances"]
    assert instances.image_size == (10, 20)
    assert instances.gt_classes.tolist() == [3]
    assert instances.gt_boxes.tensor.tolist() == [[2, 1, 6, 4]]
    assert not instances.has("gt_masks")


def test_inference_samples_have_the_image_only(sample, cfg):
    mapped = DatasetMapper(cfg, is_train=False)(sample)
    assert mapped["image"].shape == (3, 40, 80)
    assert "annotations" not in mapped
    assert "instances" not in mapped
    assert (mapped["height"], mapped["width"]) == (20, 40)


@pytest.mark.parametrize(("kind", "masks"), [("polygon", PolygonMasks), ("bitmask", BitMasks)])
def test_masks_have_the_configured_format(sample, cfg, kind, masks):
    cfg.MODEL.MASK_ON = True
    cfg.INPUT.MASK_FORMAT = kind
    instances = DatasetMapper(cfg)(sample)["instances"]
    assert isinstance(instances.gt_masks, masks)
    assert instances.gt_masks.get_bounding_boxes().tensor.tolist() == [[2, 1, 6, 4]]


def test_boxes_of_cropped_masks_are_recomputed(sample):
    sample["annotations"][0]["segmentation"] = [[4, 2, 8, 2, 8, 4, 4, 4]]
    mapper = DatasetMapper(
        is_train=True,
        augmentations=[T.CropTransform(0, 0, 10, 10)],
        image_format="RGB",
        use_instance_mask=True,
        recompute_boxes=True,
    )
    assert mapper(sample)["instances"].gt_boxes.tensor.tolist() == [[4, 2, 8, 4]]


def test_objects_outside_of_a_crop_are_dropped(sample):
    crop = T.CropTransform(20, 0, 20, 20)
    mapper = DatasetMapper(is_train=True, augmentations=[crop], image_format="RGB")
    assert len(mapper(sample)["instances"]) == 0


def test_a_crop_comes_before_the_resizing(sample, cfg):
    cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.CROP.TYPE = "absolute"
    cfg.INPUT.CROP.SIZE = [20, 20]
    assert DatasetMapper(cfg)(sample)["image"].shape == (3, 10, 10)


def test_a_segmentation_is_read_and_resized(sample, cfg, tmp_path):
    Image.fromarray(np.full((20, 40), 7, dtype=np.uint8)).save(tmp_path / "labels.png")
    sample["sem_seg_file_name"] = str(tmp_path / "labels.png")
    labels = DatasetMapper(cfg)(sample)["sem_seg"]
    assert labels.dtype == torch.int64
    assert torch.equal(labels, torch.full((10, 20), 7))


def test_an_image_without_annotations_has_no_instances(sample, cfg):
    sample["annotations"] = []
    assert len(DatasetMapper(cfg)(sample)["instances"]) == 0
