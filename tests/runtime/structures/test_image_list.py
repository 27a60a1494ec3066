"""`detectron2.structures.ImageList`: padding to a common size."""

import pytest
import torch

import d2ext  # noqa: F401
from detectron2.structures import ImageList

IMAGES = [torch.ones(3, 4, 5), torch.ones(3, 6, 2)]


def test_images_are_padded_at_the_right_and_the_bottom():
    images = ImageList.from_tensors(IMAGES, pad_value=7.0)
    assert images.tensor.shape == (2, 3, 6, 5)
    assert images.image_sizes == [(4, 5), (6, 2)]
    assert (images[0] == 1).all()
    assert (images.tensor[0, :, 4:] == 7).all()
    assert (images.tensor[1, :, :, 2:] == 7).all()
    assert [image.shape for image in images] == [(3, 4, 5), (3, 6, 2)]


def test_the_padded_size_is_a_multiple_of_size_divisibility():
    assert ImageList.from_tensors(IMAGES, 4).tensor.shape == (2, 3, 8, 8)
    assert ImageList.from_tensors(IMAGES[:1], 4).tensor.shape == (1, 3, 4, 8)
    constraints = {"size_divisibility": 16}
    found = ImageList.from_tensors(IMAGES, 4, padding_constraints=constraints)
    assert found.tensor.shape == (2, 3, 16, 16)


def test_square_size_pads_to_that_square():
    found = ImageList.from_tensors(IMAGES, padding_constraints={"square_size": 10})
    assert found.tensor.shape == (2, 3, 10, 10)


def test_padding_keeps_dtype_and_images_without_channels():
    found = ImageList.from_tensors([torch.ones(4, 5, dtype=torch.uint8)], 4)
    assert found.tensor.shape == (1, 4, 8)
    assert found.tensor.dtype == torch.uint8


def test_moving_keeps_the_image_sizes():
    moved = ImageList.from_tensors(IMAGES).to(torch.float64)
    assert moved.tensor.dtype == torch.float64
    assert moved.image_sizes == [(4, 5), (6, 2)]
    assert moved.device == torch.device("cpu")


@pytest.mark.parametrize("images", [[], [torch.ones(3, 4, 5), torch.ones(2, 4, 5)]])
def test_an_empty_list_and_differing_channels_are_refused(images: list[torch.Tensor]):
    with pytest.raises((ValueError, AssertionError)):
        ImageList.from_tensors(images)
