"""`detectron2.structures.masks`: bit masks and polygons."""

import numpy as np
import pytest
import torch

import d2ext  # noqa: F401
from detectron2.structures import BitMasks, Boxes, PolygonMasks, ROIMasks, polygons_to_bitmask

BAD = (ValueError, AssertionError)
SQUARE = np.array([1.0, 1, 4, 1, 4, 4, 1, 4])
TRIANGLE = np.array([0.0, 0, 4, 0, 4, 3])


def square_bits() -> torch.Tensor:
    bits = torch.zeros(1, 6, 7, dtype=torch.bool)
    bits[0, 1:4, 1:4] = True
    return bits


def test_a_polygon_is_rasterized_to_its_pixels():
    found = polygons_to_bitmask([SQUARE], 6, 7)
    assert found.dtype == bool
    np.testing.assert_array_equal(found, square_bits()[0].numpy())


def test_an_empty_list_of_polygons_is_an_empty_mask():
    assert not polygons_to_bitmask([], 6, 7).any()


def test_bit_masks_are_cast_to_bool():
    assert BitMasks(np.ones((2, 3, 4), dtype=np.uint8)).tensor.dtype == torch.bool
    assert BitMasks(torch.ones(2, 3, 4)).image_size == (3, 4)
    with pytest.raises(BAD):
        BitMasks(torch.ones(3, 4))


def test_boxes_of_bit_masks_include_the_last_pixel():
    masks = BitMasks(torch.cat((square_bits(), torch.zeros(1, 6, 7))))
    assert masks.get_bounding_boxes().tensor.tolist() == [[1, 1, 4, 4], [0, 0, 0, 0]]
    assert masks.nonempty().tolist() == [True, False]


def test_bit_masks_are_indexed():
    masks = BitMasks(torch.rand(3, 4, 5) > 0.5)
    assert masks[0].tensor.shape == (1, 4, 5)
    assert masks[1:].tensor.shape == (2, 4, 5)
    assert len(masks[torch.tensor([True, False, True])]) == 2
    assert next(iter(masks)).shape == (4, 5)
    assert len(BitMasks.cat([masks, masks[:1]])) == 4


def test_bit_masks_are_rasterized_from_polygons():
    found = BitMasks.from_polygon_masks(PolygonMasks([[SQUARE], []]), 6, 7)
    assert found.tensor.sum(dim=(1, 2)).tolist() == [9, 0]
    assert BitMasks.from_polygon_masks([], 6, 7).tensor.shape == (0, 6, 7)


@pytest.mark.parametrize("masks", [BitMasks(square_bits()), PolygonMasks([[SQUARE]])])
def test_a_mask_is_cropped_and_resized(masks: BitMasks | PolygonMasks):
    found = masks.crop_and_resize(torch.tensor([[1.0, 0, 7, 6]]), 12)
    assert found.dtype == torch.bool
    assert found.shape == (1, 12, 12)
    assert found[0, 3:7, 1:5].all()  # two cells a pixel; corners are rounded
    assert found.sum() in (32, 36)
    assert not found[0, :, 6:].any()


def test_cropping_needs_one_box_per_mask():
    with pytest.raises(BAD):
        PolygonMasks([[SQUARE]]).crop_and_resize(torch.zeros(0, 4), 8)
    assert PolygonMasks([]).crop_and_resize(torch.zeros(0, 4), 8).shape == (0, 8, 8)


def test_polygons_have_boxes_and_areas():
    masks = PolygonMasks([[TRIANGLE], [SQUARE, TRIANGLE + 2]])
    assert masks.get_bounding_boxes().tensor.tolist() == [[0, 0, 4, 3], [1, 1, 6, 5]]
    assert masks.area().tolist() == [6, 15]
    assert PolygonMasks([[TRIANGLE], []]).nonempty().tolist() == [True, False]


def test_polygons_are_indexed():
    masks = PolygonMasks([[TRIANGLE], [SQUARE], [SQUARE, TRIANGLE]])
    assert len(masks[-1].polygons[0]) == 2
    for item in (slice(0, 2), [0, 1], torch.tensor([0, 1]), torch.tensor([True, True, False])):
        assert [polygons[0].tolist() for polygons in masks[item]] == [
            TRIANGLE.tolist(),
            SQUARE.tolist(),
        ]
    assert len(PolygonMasks.cat([masks, masks])) == 6
    assert masks.to("anywhere") is masks


@pytest.mark.parametrize("polygons", [[SQUARE], SQUARE, [[SQUARE[:4]]], [[SQUARE[:7]]]])
def test_invalid_polygons_are_refused(polygons: list):
    with pytest.raises(BAD):
        PolygonMasks(polygons)


def test_roi_masks_are_pasted_into_their_boxes():
    masks = ROIMasks(torch.ones(2, 4, 4))
    boxes = Boxes(torch.tensor([[1.0, 1, 4, 4], [0, 0, 7, 6]]))
    found = masks.to_bitmasks(boxes, 6, 7)
    assert torch.equal(found.tensor[0], square_bits()[0])
    assert found.tensor[1].all()
    assert len(masks[torch.tensor([True, False])]) == 1
