"""Cutting images into parts."""

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2ext.config import get_cfg
from d2ext.data.augmentation.slices import slice_dataset, slice_options, slices_of
from d2ext.data.dataset_paths import register_datasets
from d2ext.data.loader import build_train_loader, iterations_per_epoch
from d2ext.data.mappers.default import build_train_mapper
from d2ext.errors import ConfigError
from detectron2.structures import BoxMode


@given(st.integers(1, 500), st.integers(1, 500), st.integers(8, 200), st.floats(0, 0.9))
def test_every_pixel_is_covered_and_neighbours_overlap(height, width, size, overlap):
    regions = slices_of(height, width, size, overlap)
    seen = np.zeros((height, width), bool)
    for x0, y0, x1, y1 in regions:
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        assert (x1 - x0, y1 - y0) == (min(size, width), min(size, height))
        seen[y0:y1, x0:x1] = True
    assert seen.all()
    columns = sorted({(x0, x1) for x0, _, x1, _ in regions})
    for (_, end), (start, _) in itertools.pairwise(columns):
        assert end - start >= overlap * size - 1


def large_image(tmp_path, *boxes, height=100, width=200):
    path = str(tmp_path / "large.png")
    image = np.zeros((height, width, 3), np.uint8)
    for x0, y0, x1, y1 in boxes:
        image[y0:y1, x0:x1] = 255
    cv2.imwrite(path, image)
    objects = [
        {"bbox": list(box), "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0} for box in boxes
    ]
    size = {"height": height, "width": width}
    return {"file_name": path, "image_id": 1, "annotations": objects, **size}


def test_parts_show_their_own_objects(tmp_path):
    item = large_image(tmp_path, (10, 10, 30, 40), (150, 60, 170, 80), (95, 20, 105, 30))
    cfg = get_cfg()
    cfg.merge_from_list(["INPUT.MIN_SIZE_TRAIN", (100,), "INPUT.RANDOM_FLIP", "none"])
    mapper = build_train_mapper(cfg)
    parts = slice_dataset([item], 100, 0.2)
    assert len(parts) == 3
    found = 0
    for part in parts:
        made = mapper(part)
        assert made["image"].shape == (3, 100, 100)
        for box in made["instances"].gt_boxes.tensor.round().int().tolist():
            assert made["image"][:, box[1] : box[3], box[0] : box[2]].min() == 255
            found += 1
    assert found == 5  # the object in the middle lies in all three parts


def test_small_images_stay_whole(tmp_path):
    item = large_image(tmp_path, (10, 10, 30, 40))
    assert slice_dataset([item], 200, 0.2) == [item]


def test_of_parts_without_objects_only_as_many_as_with_some_are_kept(tmp_path):
    item = large_image(tmp_path, (10, 10, 30, 40), height=600, width=600)
    parts = slice_dataset([item], 100, 0.0)
    assert len(parts) == 2
    assert sum(bool(part["annotations"]) for part in parts) == 1
    (full,) = slice_dataset([item], 100, 0.0, filter_empty=True)
    assert full["annotations"]
    item["annotations"] = []
    assert len(slice_dataset([item], 100, 0.0)) == 36


def test_training_reads_parts_and_counts_them(cfg, coco):
    cfg.DATASETS.REGISTER = [
        {"name": "parts", "path": str(coco.annotations), "images": str(coco.images)}
    ]
    cfg.DATASETS.TRAIN = ("parts",)
    register_datasets(cfg)
    cfg.INPUT.SLICE_SIZE, cfg.INPUT.SLICE_OVERLAP, cfg.INPUT.CROP.ENABLED = 24, 0.0, False
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.SOLVER.IMS_PER_BATCH = (24,), 1
    count = iterations_per_epoch(cfg)
    assert count > 3  # images of 32x24 are two parts each
    batch = next(iter(build_train_loader(cfg)))
    assert batch[0]["image"].shape == (3, 24, 24)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("SLICE_SIZE", -1, r"TEST\.SLICE_SIZE is a side in pixels"),
        ("SLICE_OVERLAP", 1.0, r"TEST\.SLICE_OVERLAP is a share"),
    ],
)
def test_options_out_of_range_are_refused(key, value, message):
    cfg = get_cfg()
    cfg.TEST[key] = value
    with pytest.raises(ConfigError, match=message):
        slice_options(cfg.TEST, "TEST")
