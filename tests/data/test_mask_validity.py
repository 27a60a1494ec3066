"""Run lengths of any data set, validated before C code decodes them."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from d2ext.data.loader import SeededDataset
from d2ext.data.mask_validity import BrokenMaskError, decode_run_lengths
from d2ext.data.sampling import Sample
from d2ext.errors import DataError
from detectron2.data import DatasetFromList

BROKEN = [
    {"size": [0, 0], "counts": ""},
    {"size": [1 << 20, 1 << 20], "counts": "0"},
    {"size": [24, 32], "counts": "01g0d00b0"},
    {"size": [24, 32], "counts": [768]},
    {"size": [24, 32], "counts": ""},
    {"size": [24, 32]},
    {"counts": "0"},
    {"size": "ab", "counts": "0"},
]


def test_valid_run_lengths_are_decoded():
    mask = (np.random.default_rng(0).random((24, 32)) < 0.3).astype(np.uint8)
    runs = coco_mask.encode(np.asfortranarray(mask))
    np.testing.assert_array_equal(decode_run_lengths(runs), mask)


@pytest.mark.parametrize("mask", BROKEN)
def test_broken_ones_are_refused_and_the_loader_names_their_image(mask):
    with pytest.raises(BrokenMaskError):
        decode_run_lengths(mask)
    items = DatasetFromList([{"file_name": "a.png", "mask": mask}])
    dataset = SeededDataset(items, lambda item: {"mask": decode_run_lengths(item["mask"])}, 0)
    with pytest.raises(DataError, match=r"a\.png: the image cannot be used"):
        dataset[Sample(0, 0)]
