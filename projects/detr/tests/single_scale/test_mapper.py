"""The dataset mapper: plain images and cropped ones."""

import numpy as np
import pytest
import torch
from PIL import Image

from d2ext.data.dataset_paths import register_specs
from d2ext.data.loader import seeded
from d2ext.data.mappers import build_mapper, mapper_name
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from tests.helpers.panoptic_data import write_panoptic

CROP = ["INPUT.CROP.ENABLED", "True", "INPUT.CROP.TYPE", "absolute_range"]
SIZES = ["INPUT.MIN_SIZE_TRAIN", "[96]", "INPUT.MAX_SIZE_TRAIN", "160", "INPUT.RANDOM_FLIP", "none"]


@pytest.fixture
def item(tmp_path):
    """An image of 100 x 200 whose left half is its one object."""
    path = tmp_path / "image.png"
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[:, :100] = 255
    Image.fromarray(pixels).save(path)
    box = {"bbox": [0, 0, 100, 100], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1, "iscrowd": 0}
    return {"file_name": str(path), "height": 100, "width": 200, "annotations": [box]}


def samples(mapper, item, count: int = 24) -> list[dict]:
    found = []
    for number in range(count):
        with seeded(0, number):
            found.append(mapper(item))
    return found


def test_it_is_the_mapper_of_the_family(config):
    assert mapper_name(config("dab")) == "detr"


def test_about_half_of_the_images_are_cropped(config, item):
    cfg = config("detr", *SIZES, *CROP, "INPUT.CROP.SIZE", "[384, 384]")
    shapes = [tuple(each["image"].shape[1:]) for each in samples(build_mapper(cfg, "train"), item)]
    plain = shapes.count((80, 160))
    assert 6 <= plain <= 18
    assert {shape for shape in shapes if shape != (80, 160)} == {(96, 96)}


def test_boxes_follow_the_crop(config, item):
    cfg = config("detr", *SIZES, *CROP, "INPUT.CROP.SIZE", "[384, 384]")
    for found in samples(build_mapper(cfg, "train"), item):
        bright = (found["image"][0] > 127).nonzero()
        boxes = found["instances"].gt_boxes.tensor
        if len(boxes) == 0:  # less than INPUT.MIN_VISIBLE of the object is left
            assert len(bright) < 0.2 * found["image"][0].numel()
            continue
        corners = torch.cat((bright.amin(0).flip(0), bright.amax(0).flip(0) + 1)).float()
        torch.testing.assert_close(boxes[0], corners, atol=1.5, rtol=0)


def test_nothing_is_cropped_in_validation(config, item):
    cfg = config("detr", *CROP, "INPUT.MIN_SIZE_TEST", "96", "INPUT.MAX_SIZE_TEST", "160")
    shapes = {
        tuple(each["image"].shape[1:]) for each in samples(build_mapper(cfg, "validation"), item)
    }
    assert shapes == {(80, 160)}


@pytest.mark.parametrize("crop", [[], [*CROP, "INPUT.CROP.SIZE", "[384, 384]"]])
def test_panoptic_models_get_boxes_and_masks_of_things_and_stuff(config, tmp_path, crop):
    name = f"panoptic_of_detr_{len(crop)}"
    register_specs([{"name": name, "path": str(write_panoptic(tmp_path))}])
    try:
        item = DatasetCatalog.get(name)[0]
        options = ["MODEL.DETR.PANOPTIC.ENABLED", "True", "DATASETS.TRAIN", f"['{name}']"]
        mapper = build_mapper(config("detr", *SIZES, *crop, *options), "train")
        found = [sample["instances"] for sample in samples(mapper, item, 4)]
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    assert {0, 1, 2, 3} == {label for each in found for label in each.gt_classes.tolist()}
    for each in found:
        enclosing = each.gt_masks.get_bounding_boxes().tensor
        torch.testing.assert_close(each.gt_boxes.tensor, enclosing, rtol=0, atol=2.1)
