"""The augmentations of the papers."""

import numpy as np
import pytest
import torch
from PIL import Image

from d2ext.config import load_config
from d2ext.data.loader import seeded
from d2ext.data.mappers.registry import build_mapper
from d2ext.errors import ConfigError
from d2ext.projects.maskformer.tests.conftest import CONFIG
from detectron2.structures import BoxMode

SIZES = ["INPUT.MIN_SIZE_TRAIN", "[64]", "INPUT.MAX_SIZE_TRAIN", "200"]
CROP = ["INPUT.CROP.ENABLED", "True", "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", "[32, 48]"]
JITTER = ["INPUT.MASK_FORMER.SCALE_JITTER", "[0.1, 2.0]", "INPUT.MASK_FORMER.SIZE", "80"]


@pytest.fixture
def semantic(tmp_path) -> dict:
    """An image whose left part is class 0, whose right tenth is class 1, and its labels."""
    labels = np.zeros((60, 100), np.uint8)
    labels[:, 90:] = 1
    Image.fromarray(labels * 200).convert("RGB").save(tmp_path / "image.png")
    Image.fromarray(labels).save(tmp_path / "labels.png")
    names = {"file_name": tmp_path / "image.png", "sem_seg_file_name": tmp_path / "labels.png"}
    return {**{key: str(path) for key, path in names.items()}, "height": 60, "width": 100}


def build(*options: str, mode: str = "train"):
    return build_mapper(load_config(CONFIG, [*SIZES, *options]), mode)


def test_crops_follow_the_resizing(semantic):
    torch.manual_seed(0)
    np.random.seed(0)
    item = build(*CROP)(semantic)
    assert item["image"].shape == (3, 32, 48)
    assert item["sem_seg"].shape == (32, 48)
    assert set(item["sem_seg"].unique().tolist()) <= {0, 1}


def test_a_crop_has_not_too_much_of_one_class_where_it_can_be_avoided(semantic):
    limit = ["INPUT.MASK_FORMER.SINGLE_CATEGORY_MAX_AREA", "0.9"]
    np.random.seed(0)
    with_limit = [build(*CROP, *limit)(semantic)["sem_seg"] for _ in range(20)]
    np.random.seed(0)
    without = [build(*CROP)(semantic)["sem_seg"] for _ in range(20)]
    shares = [
        np.mean([(each == 0).float().mean() > 0.9 for each in crops])
        for crops in (with_limit, without)
    ]
    assert shares[0] < shares[1]


def test_instance_masks_do_not_tell_how_much_of_a_crop_a_class_has():
    limit = ["INPUT.MASK_FORMER.SINGLE_CATEGORY_MAX_AREA", "0.75"]
    with pytest.raises(ConfigError, match=r"SINGLE_CATEGORY_MAX_AREA is 0\.75, but instance masks"):
        build(*CROP, *limit, "MODEL.MASK_FORMER.TASK", "instance")


def test_jittered_images_have_the_fixed_size_and_padding_has_no_class(semantic):
    found = []
    np.random.seed(0)
    for _ in range(20):
        item = build(*JITTER)(semantic)
        assert item["image"].shape == (3, 80, 80)
        labels = item["sem_seg"]
        assert labels.shape == (80, 80)
        assert set(labels.unique().tolist()) <= {0, 1, 255}
        found.append((labels == 255).float().mean().item())
    assert max(found) > 0.5  # small scales leave much padding
    assert min(found) == 0


def test_masks_follow_the_jitter(semantic):
    del semantic["sem_seg_file_name"]
    box = {"bbox": [20, 10, 60, 40], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
    box["segmentation"] = [[20, 10, 60, 10, 60, 40, 20, 40]]
    semantic["annotations"] = [box]
    masks = ["MODEL.MASK_ON", "True", "MODEL.MASK_FORMER.TASK", "instance"]
    np.random.seed(3)
    instances = build(*JITTER, *masks)(semantic)["instances"]
    assert instances.image_size == (80, 80)
    torch.testing.assert_close(
        instances.gt_boxes.tensor, instances.gt_masks.get_bounding_boxes().tensor
    )


def test_colours_change_only_where_asked_for(semantic):
    with seeded(0):
        plain = build(*CROP, "INPUT.FORMAT", "RGB")(semantic)["image"]
    assert set(plain.unique().tolist()) <= {0, 200, *range(201)}
    with seeded(0):  # the colours draw from more than NumPy's generator
        images = [build("INPUT.MASK_FORMER.COLOR_SSD", "True")(semantic) for _ in range(20)]
    assert any(item["image"].float().std() > 0 and item["image"].max() > 200 for item in images)


def test_evaluation_does_not_crop(semantic):
    image = build(*CROP, *JITTER, mode="test")(semantic)["image"]
    assert image.shape[1] * 100 == pytest.approx(image.shape[2] * 60, abs=100)
