"""The pictures are the same everywhere and their annotations fit them."""

import hashlib
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from d2ext.data import shapes_render
from d2ext.data.shapes_geometry import fill_outline, outline_area
from d2ext.data.shapes_render import CLASSES, VERSION, Stream, render

# Of VERSION: a change of the pictures needs another one, or old caches would be taken for new.
HASH = {3: "beb870f574e49220"}


def masks_of(image: np.ndarray, item: dict) -> np.ndarray:
    height, width, _ = image.shape
    segmentation = item["segmentation"]
    if isinstance(segmentation, list):
        segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    return coco_mask.decode(segmentation).astype(bool)


@pytest.fixture(scope="module")
def pictures() -> list:
    return [render(7, number) for number in range(60)]


def test_the_pictures_of_a_version_are_the_same_bits_everywhere():
    digest = hashlib.sha256()
    for number in range(5):
        image, items = render(0, number)
        digest.update(str(image.shape).encode() + image.tobytes())
        digest.update(json.dumps(items).encode())
    assert digest.hexdigest()[:16] == HASH[VERSION]


def test_random_numbers_are_those_of_pcg64_scaled_to_the_range():
    raw = np.random.PCG64(np.random.SeedSequence((1, 2))).random_raw(6)
    assert Stream(1, 2).array(6, 10).tolist() == [int(r) * 10 >> 64 for r in raw]
    assert set(Stream(3).array(10_000, 7).tolist()) == set(range(7))


def test_boxes_are_the_tightest_around_the_visible_pixels(pictures):
    for image, items in pictures:
        for item in items:
            mask = masks_of(image, item)
            x, y, width, height = item["bbox"]
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            tight = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            # Polygons are drawn by pycocotools here, which rounds borders in its own way.
            slack = 1 if isinstance(item["segmentation"], list) else 0
            assert np.abs(np.subtract(tight, [x, y, x + width, y + height])).max() <= slack


def test_areas_are_those_of_the_masks(pictures):
    for image, items in pictures:
        for item in items:
            assert masks_of(image, item).sum() == pytest.approx(item["area"], rel=0.15, abs=4)


def test_visible_parts_do_not_overlap(pictures):
    for image, items in pictures:
        exact = [masks_of(image, i) for i in items if isinstance(i["segmentation"], dict)]
        assert np.sum(exact, axis=0).max(initial=0) <= 1


def test_there_are_polygons_rle_masks_crowds_and_empty_images(pictures):
    items = [item for _, found in pictures for item in found]
    polygons = sum(isinstance(item["segmentation"], list) for item in items)
    assert 0.45 < polygons / len(items) < 0.8
    assert any(item["iscrowd"] for item in items)
    assert any(not found for _, found in pictures)
    assert {item["category_id"] for item in items} == set(range(1, len(CLASSES) + 1))


def test_colour_alone_does_not_tell_the_class(pictures):
    near = dict.fromkeys(range(len(CLASSES)), 0)
    count = dict(near)
    for image, items in pictures:
        for item in items:
            label = item["category_id"] - 1
            colour = np.median(image[masks_of(image, item)], axis=0)
            count[label] += 1
            near[label] += np.abs(colour - shapes_render._COLOURS[label]).max() < 12
    assert all(near[label] < 0.9 * count[label] for label in count)


def test_a_square_covers_the_pixels_whose_centres_are_inside():
    corners = np.array([(1, 1), (3, 1), (3, 4), (1, 4)]) * 16
    expected = np.zeros((5, 6), bool)
    expected[1:4, 1:3] = True
    np.testing.assert_array_equal(fill_outline(corners, 5, 6), expected)
    assert outline_area(corners) == 6
    on_centres = corners - [[8, 0]]  # from 0.5 to 2.5: the right border belongs to the shape
    assert fill_outline(on_centres, 5, 6)[1].tolist() == [False, True, True] + [False] * 3


def test_a_shape_beyond_the_image_is_cut_at_its_border():
    corners = np.array([(-2, -2), (2, -2), (2, 2), (-2, 2)]) * 16
    assert fill_outline(corners, 4, 4).sum() == 4
