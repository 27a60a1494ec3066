"""The mapper beside Detectron2's own, and rotated boxes."""

import random

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from d2ext.config import get_cfg
from d2ext.data.mappers.default import build_train_mapper, build_validation_mapper
from detectron2.data import DatasetMapper, MetadataCatalog
from detectron2.structures import BoxMode, RotatedBoxes


@pytest.fixture
def item(tmp_path):
    """A picture of noise with three objects and a crowd; masks in both forms, keypoints."""
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    path = str(tmp_path / "image.png")
    cv2.imwrite(path, image)
    # Floats: integer coordinates Detectron2 rounds down at every step.
    boxes = [[4.0, 8, 24, 40], [30.0, 10, 45, 22], [50.5, 20.25, 79, 59], [0.0, 0, 9, 9]]
    objects = [
        {
            "bbox": box,
            "bbox_mode": BoxMode.XYXY_ABS,
            "category_id": number % 2,
            "iscrowd": int(number == 3),
            "segmentation": [polygon(box)],
            "keypoints": [box[0], box[1], 2, box[2], box[3], 1, 0, 0, 0],
        }
        for number, box in enumerate(boxes)
    ]
    return {
        "file_name": path,
        "height": 60,
        "width": 80,
        "image_id": 1,
        "annotations": objects,
    }


def polygon(box):
    x0, y0, x1, y1 = box
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def rle(box, height=60, width=80):
    mask = np.zeros((height, width), np.uint8, order="F")
    x0, y0, x1, y1 = (round(value) for value in box)
    mask[y0:y1, x0:x1] = 1
    return coco_mask.encode(mask)


def config(*options):
    cfg = get_cfg()
    cfg.merge_from_list(["INPUT.MIN_SIZE_TRAIN", (40, 60), "INPUT.MIN_VISIBLE", 0.0, *options])
    return cfg


@pytest.fixture
def keypoint_names():
    data = MetadataCatalog.get("points")
    data.keypoint_names = ["left", "right", "nose"]
    data.keypoint_flip_map = [("left", "right")]
    yield "points"
    MetadataCatalog.remove("points")


MODELS = {
    "boxes": [],
    "crop": ["INPUT.CROP.ENABLED", True, "INPUT.CROP.SIZE", [0.5, 0.5]],
    "polygons": ["MODEL.MASK_ON", True],
    "cropped polygons": ["MODEL.MASK_ON", True, "INPUT.CROP.ENABLED", True],
    "masks": ["MODEL.MASK_ON", True, "INPUT.MASK_FORMAT", "bitmask"],
    "keypoints": ["MODEL.KEYPOINT_ON", True, "DATASETS.TRAIN", ("points",)],
}


@pytest.mark.parametrize("model", MODELS)
def test_it_gives_what_detectron2s_own_gives(item, keypoint_names, model):
    if model == "masks":
        for annotation in item["annotations"]:
            annotation["segmentation"] = rle(annotation["bbox"])
    cfg = config(*MODELS[model])
    for seed in range(6):
        found, expected = (
            under_seed(mapper, item, seed)
            for mapper in (build_train_mapper(cfg), DatasetMapper(cfg, is_train=True))
        )
        assert_same(found, expected)


@pytest.mark.parametrize("first", [0, 1])
def test_an_object_without_a_mask_is_left_out_of_a_model_of_masks(item, first):
    del item["annotations"][first]["segmentation"]
    found = build_train_mapper(config("MODEL.MASK_ON", True))(item)["instances"]
    assert len(found.gt_masks) == len(found) == 2
    assert len(build_train_mapper(config())(item)["instances"]) == 3


@pytest.mark.parametrize("first", [0, 1])
def test_an_object_without_keypoints_is_learned_with_unlabelled_ones(item, keypoint_names, first):
    del item["annotations"][first]["keypoints"]
    options = ["MODEL.KEYPOINT_ON", True, "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", 3]
    cfg = config(*options, "DATASETS.TRAIN", ("points",))
    found = build_train_mapper(cfg)(item)["instances"]
    assert found.gt_keypoints.tensor.shape == (3, 3, 3)
    assert found.gt_keypoints.tensor[first].tolist() == [[0, 0, 0]] * 3


@pytest.mark.parametrize(("pairs", "mirrored"), [([("left", "right")], True), ([], False)])
def test_images_are_mirrored_where_pairs_of_keypoints_are_known(
    item, keypoint_names, caplog, pairs, mirrored
):
    data = MetadataCatalog.get("points")
    del data.keypoint_flip_map
    data.keypoint_flip_map = pairs
    with caplog.at_level("WARNING"):
        mapper = build_train_mapper(config(*MODELS["keypoints"]))
    widths = {round(float(flipped_share(mapper, item, seed)), 2) for seed in range(8)}
    assert (len(widths) == 2) is mirrored
    assert ("not mirrored" in caplog.text) is not mirrored


@pytest.mark.parametrize(
    ("names", "pairs"),
    [(["left_ear", "tail", "nose"], []), (["l_x", "r_x", "l_y"], [("l_x", "r_x")])],
)
def test_images_are_not_mirrored_where_a_keypoint_has_a_side_and_no_partner(
    item, keypoint_names, caplog, names, pairs
):
    data = MetadataCatalog.get("points")
    del data.keypoint_flip_map, data.keypoint_names
    data.keypoint_names, data.keypoint_flip_map = names, pairs
    with caplog.at_level("WARNING"):
        cfg = config(*MODELS["keypoints"], "INPUT.VERTICAL_FLIP", 0.5)
        mapper = build_train_mapper(cfg)
    assert {round(float(flipped_share(mapper, item, seed)), 2) for seed in range(6)} == {0.17}
    side = names[0] if not pairs else "l_y"
    assert f"no partner is known for the keypoints {side}" in caplog.text


def test_images_are_not_mirrored_in_a_blend_where_no_pairs_are_known(item, keypoint_names):
    data = MetadataCatalog.get("points")
    for pairs, mirrors in (([("left", "right")], True), ([], False)):
        del data.keypoint_flip_map
        data.keypoint_flip_map = pairs
        cfg = config(*MODELS["keypoints"], "INPUT.MIXUP", 1.0)
        assert build_train_mapper(cfg, [item]).annotation_transform.mirrors is mirrors


def flipped_share(mapper, item, seed):
    """Where the first object's middle is, as a share of the image's width."""
    found = under_seed(mapper, item, seed)
    return found["instances"].gt_boxes.get_centers()[0, 0] / found["image"].shape[2]


def under_seed(mapper, item, seed):
    random.seed(seed), np.random.seed(seed)
    return mapper(item)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    assert torch.equal(found["image"], expected["image"])
    mine, theirs = found["instances"].get_fields(), expected["instances"].get_fields()
    assert mine.keys() == theirs.keys()
    torch.testing.assert_close(mine["gt_boxes"].tensor, theirs["gt_boxes"].tensor)
    assert torch.equal(mine["gt_classes"], theirs["gt_classes"])
    if "gt_keypoints" in mine:
        torch.testing.assert_close(mine["gt_keypoints"].tensor, theirs["gt_keypoints"].tensor)
    if "gt_masks" in mine:
        boxes = [fields["gt_masks"].get_bounding_boxes().tensor for fields in (mine, theirs)]
        torch.testing.assert_close(*boxes)


def test_semantic_labels_come_along(item, tmp_path):
    labels = np.zeros((60, 80), np.uint8)
    labels[:, 40:], labels[:5] = 7, 255
    cv2.imwrite(str(tmp_path / "labels.png"), labels)
    item["sem_seg_file_name"] = str(tmp_path / "labels.png")
    del item["annotations"]
    cfg = config("INPUT.CROP.ENABLED", True)
    found, expected = (
        under_seed(mapper, item, 3)["sem_seg"]
        for mapper in (build_train_mapper(cfg), DatasetMapper(cfg, is_train=True))
    )
    assert torch.equal(found, expected)
    assert found.dtype == torch.int64


def test_what_a_rotation_uncovers_is_ignored(item, tmp_path):
    cv2.imwrite(str(tmp_path / "labels.png"), np.full((60, 80), 3, np.uint8))
    item["sem_seg_file_name"] = str(tmp_path / "labels.png")
    np.random.seed(0)
    found = build_train_mapper(config("INPUT.ROTATION", 90.0))(item)["sem_seg"]
    assert found.unique().tolist() == [3, 255]
    assert found[0, 0] == 255


ROTATED = ["MODEL.ANCHOR_GENERATOR.NAME", "RotatedAnchorGenerator"]


def rotated(item, *boxes):
    item["annotations"] = [
        {"bbox": list(box), "bbox_mode": BoxMode.XYWHA_ABS, "category_id": 0} for box in boxes
    ]
    return item


def test_rotated_boxes_are_resized_and_mirrored(item):
    item = rotated(item, (40, 30, 20, 10, 30))
    cfg = config(*ROTATED, "INPUT.MIN_SIZE_TRAIN", (120,), "INPUT.RANDOM_FLIP", "none")
    found = build_train_mapper(cfg)(item)["instances"].gt_boxes
    assert isinstance(found, RotatedBoxes)
    torch.testing.assert_close(found.tensor, torch.tensor([[80.0, 60, 40, 20, 30]]))
    cfg.INPUT.RANDOM_FLIP = "horizontal"
    angles = {
        round(
            under_seed(build_train_mapper(cfg), item, seed)["instances"]
            .gt_boxes.tensor[0, 4]
            .item()
        )
        for seed in range(10)
    }
    assert angles == {30, -30}


def test_upright_boxes_become_rotated_ones_for_a_model_of_those(item):
    cfg = config(*ROTATED, "INPUT.MIN_SIZE_TRAIN", (60,), "INPUT.RANDOM_FLIP", "none")
    found = build_train_mapper(cfg)(item)["instances"].gt_boxes.tensor
    assert found[0].tolist() == [14, 24, 20, 32, 0]


def test_rotated_boxes_are_enclosed_for_a_model_of_upright_ones(item):
    item = rotated(item, (40, 30, 20, 10, 90))
    cfg = config("INPUT.MIN_SIZE_TRAIN", (60,), "INPUT.RANDOM_FLIP", "none")
    found = build_train_mapper(cfg)(item)["instances"].gt_boxes.tensor
    torch.testing.assert_close(found, torch.tensor([[35.0, 20, 45, 40]]))


def test_an_image_without_rotated_boxes_has_none_of_them(item):
    found = build_train_mapper(config(*ROTATED))(rotated(item))["instances"]
    assert isinstance(found.gt_boxes, RotatedBoxes)
    assert len(found) == 0


def test_losses_are_measured_on_images_as_they_are_tested(item):
    cfg = config("INPUT.MIN_SIZE_TEST", 30, "INPUT.CROP.ENABLED", True, "INPUT.MOSAIC", 1.0)
    found = build_validation_mapper(cfg)(item)
    assert found["image"].shape == (3, 30, 40)
    assert found["instances"].gt_boxes.tensor[0].tolist() == [2, 4, 12, 20]
