"""Images of more than 8 bits and of one channel: the same pixels for every reader."""

import os

import numpy as np
import pytest
from PIL import Image

from d2ext.config import get_cfg
from d2ext.data.augmentation.annotated_image import read_annotated_image
from d2ext.data.image_info import read_image_info
from d2ext.data.image_reading import as_rgb, from_rgb, read_image, scale_to_8_bits
from d2ext.data.mappers.default import build_test_mapper, build_train_mapper

RAMP = np.linspace(0, 1, 40 * 30).reshape(30, 40)
GREY = np.floor(RAMP * 255 + 1e-9).astype(int)


def deep(values, path):
    Image.fromarray(values).save(path)
    return str(path)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ((1000 + 4000 * RAMP).round().astype(np.uint16), "a.png"),
        ((1000 + 4000 * RAMP).round().astype(np.uint16), "a.tif"),
        ((RAMP - 0.5).astype(np.float32), "a.tif"),
        ((RAMP * 1e6).round().astype(np.int32), "a.tif"),
        ((1000 + 4000 * RAMP).round().astype(np.uint16), "a.jp2"),
    ],
)
@pytest.mark.parametrize("format", ["RGB", "BGR", "L"])
def test_more_than_8_bits_are_scaled_by_the_range_of_the_image(tmp_path, values, name, format):
    found = read_image(deep(values, tmp_path / name), format)
    assert found.shape == (30, 40, 1 if format == "L" else 3)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - GREY[:, :, None]).max() <= 1
    assert (found.min(), found.max()) == (0, 255)


def test_values_that_are_not_finite_do_not_count(tmp_path):
    values = np.array([[1.0, 3.0], [np.nan, np.inf]], np.float32)
    found = read_image(deep(values, tmp_path / "a.tif"), "L")
    assert found[:, :, 0].tolist() == [[0, 255], [0, 255]]
    assert scale_to_8_bits(np.full((2, 2), np.nan)).tolist() == [[0, 0], [0, 0]]


def test_a_deep_image_of_one_value_is_black(tmp_path):
    assert read_image(deep(np.full((4, 4), 700, np.uint16), tmp_path / "a.png"), "L").max() == 0


@pytest.mark.parametrize("format", ["RGB", "L"])
def test_training_evaluation_and_prediction_see_the_same_pixels(tmp_path, format):
    path = deep((1000 + 4000 * RAMP).round().astype(np.uint16), tmp_path / "a.png")
    item = {"file_name": path, "height": 30, "width": 40, "annotations": []}
    cfg = get_cfg()
    cfg.INPUT.FORMAT, cfg.INPUT.RANDOM_FLIP = format, "none"
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (30,), 30
    train, test = build_train_mapper(cfg)(item)["image"], build_test_mapper(cfg)(item)["image"]
    predicted = from_rgb(read_image(path, "RGB"), format)
    expected = read_image(path, format).transpose(2, 0, 1)
    for found in (train.numpy(), test.numpy(), predicted.transpose(2, 0, 1)):
        assert np.array_equal(found, expected)


def test_the_evaluation_mapper_changes_no_dict_and_keeps_no_annotations(tmp_path):
    path = deep(np.zeros((30, 40), np.uint8), tmp_path / "a.png")
    item = {"file_name": path, "height": 30, "width": 40, "annotations": [{"bbox": [1, 2, 3, 4]}]}
    before = {**item}
    mapped = build_test_mapper(get_cfg())({**item, "sem_seg_file_name": path})
    assert set(mapped) == {"file_name", "height", "width", "image", "sem_seg"}
    assert item == before


def test_eight_bits_and_labels_stay_as_they_are(tmp_path):
    path = deep(np.full((30, 40), 7, np.uint8), tmp_path / "a.png")
    assert set(read_image(path, "RGB").ravel()) == {7}
    item = {"file_name": path, "sem_seg_file_name": path, "height": 30, "width": 40}
    assert set(read_annotated_image(item, "RGB").sem_seg.ravel()) == {7}


def test_the_thumbnail_of_a_deep_image_is_scaled_alike(tmp_path):
    info = read_image_info(deep((1000 + 4000 * RAMP).astype(np.float32), tmp_path / "a.tif"))
    assert info.thumbnail.min() < 20
    assert info.thumbnail.max() > 235


def test_grey_colours_and_luma_of_a_model_of_one_channel():
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 0], image[0, 1] = (90, 90, 90), (255, 0, 0)
    assert from_rgb(image, "L")[:, :, 0].tolist() == [[90, 76], [0, 0]]
    assert from_rgb(image, "BGR")[0, 1].tolist() == [0, 0, 255]
    assert from_rgb(image, "YUV-BT.601")[0, 0].tolist() == pytest.approx([90 / 255, 0, 0], abs=1e-4)


def test_an_image_in_memory_has_the_pixels_of_its_file(tmp_path):
    values = np.array([[1000, 40000], [1000, 1000]], dtype=np.uint16)
    for number, image in enumerate((Image.fromarray(values), Image.new("CMYK", (2, 2), "red"))):
        image.save(tmp_path / f"{number}.tif")
        assert np.array_equal(as_rgb(image), read_image(str(tmp_path / f"{number}.tif"), "RGB"))


def test_a_pipe_is_no_image(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(OSError, match="not a regular file"):
        read_image(str(tmp_path / "a.png"), "RGB")
