import cv2
import numpy as np
import pytest

from d2ext.config import get_cfg
from d2ext.data.augmentation.single_image import ColorJitterTransform
from d2ext.data.mappers.default import build_train_mapper


@pytest.fixture
def item(tmp_path):
    """A 64x64 picture with a box of light in its upper left corner."""
    image = np.full((64, 64, 3), 40, np.uint8)
    image[8:24, 4:14] = 200
    path = str(tmp_path / "image.png")
    cv2.imwrite(path, image)
    box = {"bbox": [4, 8, 14, 24], "bbox_mode": 0, "category_id": 0}
    return {"file_name": path, "height": 64, "width": 64, "image_id": 1, "annotations": [box]}


def mapped(item, **options):
    cfg = get_cfg()
    cfg.merge_from_list(["INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.RANDOM_FLIP", "none"])
    cfg.merge_from_list(
        [word for key, value in options.items() for word in (f"INPUT.{key}", value)]
    )
    return build_train_mapper(cfg)(item)


def test_by_default_nothing_is_added(item):
    image = mapped(item)["image"]
    assert np.array_equal(image.permute(1, 2, 0).numpy(), cv2.imread(item["file_name"]))


def test_a_vertical_flip_turns_picture_and_boxes(item):
    found = mapped(item, VERTICAL_FLIP=1.0)
    assert found["instances"].gt_boxes.tensor.tolist() == [[4, 40, 14, 56]]
    assert found["image"][:, 40:56, 4:14].min() == 200


def test_it_comes_on_top_of_the_horizontal_one(item):
    found = mapped(item, VERTICAL_FLIP=0.5, RANDOM_FLIP="horizontal")
    assert found["instances"].gt_boxes.tensor.shape == (1, 4)
    seen = set()
    for _ in range(40):
        found = mapped(item, VERTICAL_FLIP=0.5, RANDOM_FLIP="horizontal")
        seen.add(tuple(found["instances"].gt_boxes.tensor[0, :2].tolist()))
    assert seen == {(4, 8), (50, 8), (4, 40), (50, 40)}


def test_colours_vary_within_the_given_share_and_boxes_do_not(item):
    dark = [float(mapped(item, COLOR_JITTER=0.3)["image"].float().mean()) for _ in range(20)]
    plain = float(mapped(item)["image"].float().mean())
    assert max(dark) > plain > min(dark)
    assert 0.6 * plain < min(dark) < max(dark) < 1.4 * plain
    found = mapped(item, COLOR_JITTER=0.3)
    assert found["instances"].gt_boxes.tensor.tolist() == [[4, 8, 14, 24]]


def test_brightness_alone_scales_everything_alike(item):
    plain = mapped(item)["image"].float()
    factors = [mapped(item, BRIGHTNESS=0.2)["image"].float() / plain for _ in range(20)]
    assert all(factor.max() - factor.min() < 0.05 for factor in factors)
    means = [float(factor.mean()) for factor in factors]
    assert 0.8 <= min(means) + 0.03 < 0.95 < 1.05 < max(means) < 1.21


def test_colours_are_changed_by_hand_computed_factors():
    image = np.array([[[100, 100, 100], [200, 100, 0]]], np.uint8)
    assert ColorJitterTransform(0.5, 1.0, 1.0)(image)[0, 0].tolist() == [50, 50, 50]
    assert ColorJitterTransform(1.0, 1.0, 0.0)(image)[0, 1].tolist() == [119] * 3  # its grey: 118.5
    flat = ColorJitterTransform(1.0, 0.0, 1.0)(image)
    assert np.abs(flat.astype(float) - image.mean()).max() <= 1


def test_grey_images_are_recoloured_too():
    image = np.full((4, 5, 1), 80, np.uint8)
    assert ColorJitterTransform(0.5, 1.0, 0.3)(image).tolist() == np.full((4, 5, 1), 40).tolist()
