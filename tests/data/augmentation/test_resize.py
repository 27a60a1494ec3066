import cv2
import numpy as np
import pytest

from d2ext.config import get_cfg
from d2ext.data.augmentation.resize import ResizeTo, resize_to
from d2ext.data.mappers.default import (
    build_test_mapper,
    build_train_mapper,
    build_validation_mapper,
)
from d2ext.errors import ConfigError
from detectron2.structures import BoxMode


def config(kind: str, size: tuple[int, ...] = (96, 64), **options):
    cfg = get_cfg()
    cfg.INPUT.RESIZE, cfg.INPUT.SIZE, cfg.INPUT.RANDOM_FLIP = kind, list(size), "none"
    return cfg


def some_image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_stretching_is_opencvs_and_fills_the_size():
    image = some_image(50, 40)
    resized = ResizeTo(96, 64, stretch=True).get_transform(image).apply_image(image)
    expected = cv2.resize(image, (96, 64), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(resized, expected)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(100, 100, (64, 64)), (50, 300, (16, 96)), (300, 50, (64, 11)), (1, 500, (1, 96))],
)
def test_fitting_in_keeps_the_proportions(height, width, expected):
    assert ResizeTo(96, 64, stretch=False).size_of(height, width) == expected


@pytest.mark.parametrize("stretch", [True, False])
def test_boxes_go_with_the_image_and_exactly_back(stretch):
    transform = ResizeTo(96, 64, stretch).get_transform(some_image(50, 301))
    box = np.array([[3.0, 5.0, 250.0, 49.0]])
    there = transform.apply_box(box)
    assert there[0, 2] == pytest.approx(250 * 96 / 301)
    np.testing.assert_allclose(transform.inverse().apply_box(there), box, atol=1e-9)


def test_labels_are_not_mixed():
    labels = np.zeros((10, 10), np.uint8)
    labels[:, 5:] = 7
    transform = ResizeTo(33, 21, stretch=True).get_transform(labels[..., None])
    assert set(np.unique(transform.apply_segmentation(labels))) == {0, 7}


@pytest.fixture
def item(tmp_path):
    path = str(tmp_path / "image.png")
    cv2.imwrite(path, some_image(50, 40))
    box = {"bbox": [4, 8, 14, 24], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
    return {"file_name": path, "height": 50, "width": 40, "image_id": 1, "annotations": [box]}


def test_training_and_evaluation_resize_alike(item):
    cfg = config("stretch")
    train, test = build_train_mapper(cfg)(item), build_test_mapper(cfg)(item)
    assert train["image"].shape == test["image"].shape == (3, 64, 96)
    expected = [4 * 96 / 40, 8 * 64 / 50, 14 * 96 / 40, 24 * 64 / 50]
    assert train["instances"].gt_boxes.tensor[0].tolist() == pytest.approx(expected)
    assert "instances" not in test
    assert "instances" in build_validation_mapper(cfg)(item)


def test_by_default_detectron2_resizes(item):
    assert resize_to(get_cfg()) is None
    assert build_test_mapper(get_cfg())(item)["image"].shape == (3, 1000, 800)


def test_mistakes_name_their_key():
    with pytest.raises(ConfigError, match=r"INPUT\.RESIZE: 'squeeze' is none of"):
        resize_to(config("squeeze"))
    with pytest.raises(ConfigError, match=r"INPUT\.SIZE: expected width and height"):
        resize_to(config("stretch", (352,)))


@pytest.mark.parametrize(("width", "height"), [(1400, 2), (2, 1400), (9000, 1)])
def test_no_side_of_a_strip_becomes_less_than_a_pixel(tmp_path, width, height):
    path = str(tmp_path / "strip.png")
    cv2.imwrite(path, some_image(height, width))
    item = {"file_name": path, "height": height, "width": width, "annotations": []}
    for cfg in (get_cfg(), config("letterbox"), config("stretch")):
        for build in (build_train_mapper, build_test_mapper):
            assert min(build(cfg)(item)["image"].shape) >= 1


def test_one_channel_stays_one_channel(item):
    cfg = config("stretch")
    cfg.INPUT.FORMAT = "L"
    assert build_test_mapper(cfg)(item)["image"].shape == (1, 64, 96)
