"""Mosaic, mix-up and copy-paste on pictures whose objects can be told by their colour."""

import cv2
import numpy as np
import pytest

from d2ext.config import get_cfg
from d2ext.data.augmentation.annotated_image import AnnotatedImage, AnnotationTransform
from d2ext.data.augmentation.multi_image import (
    CopyPaste,
    MixUp,
    Mosaic,
    build_multi_image_augmentations,
)
from d2ext.data.mappers.default import build_train_mapper
from d2ext.errors import ConfigError, DataError
from detectron2.structures import BoxMode

GREY = 30


def picture(colour, height=80, width=100, box=(20, 30, 60, 70), labels=None):
    """A grey picture with one object: a rectangle of a colour, with polygon and keypoint."""
    x0, y0, x1, y1 = box
    image = np.full((height, width, 3), GREY, np.uint8)
    image[y0:y1, x0:x1] = colour
    annotation = {
        "bbox": list(box),
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": colour,
        "segmentation": [[float(v) for v in (x0, y0, x1, y0, x1, y1, x0, y1)]],
        "keypoints": [(x0 + x1) / 2, (y0 + y1) / 2, 2],
    }
    sem_seg = None if labels is None else np.full((height, width), labels, np.uint8)
    return AnnotatedImage(image, [annotation], sem_seg)


def mixed(mix, first, *others, seed=0, **transform):
    np.random.seed(seed)
    rest = iter(others)
    return mix(first, lambda: next(rest), AnnotationTransform(**transform))


def assert_boxes_hold_their_colours(found, tolerance=2):
    """Inside each box, by a margin for blurred borders, is the object's colour."""
    for annotation in found.annotations:
        x0, y0, x1, y1 = np.round(annotation["bbox"]).astype(int)
        inner = found.image[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2].astype(int)
        if inner.size:
            assert abs(inner - annotation["category_id"]).max() <= tolerance


@pytest.mark.parametrize("seed", range(8))
def test_a_mosaic_keeps_boxes_on_their_objects(seed):
    parts = [picture(100), picture(150, 50, 70, (5, 5, 40, 40)), picture(200), picture(250)]
    found = mixed(Mosaic(1.0), *parts, seed=seed, min_visible=0.2)
    assert found.size == parts[0].size
    assert {a["category_id"] for a in found.annotations} <= {100, 150, 200, 250}
    assert len(found.annotations) >= 1
    assert_boxes_hold_their_colours(found)


def test_every_coloured_pixel_of_a_mosaic_lies_in_a_box():
    for seed in range(8):
        found = mixed(Mosaic(1.0), *(picture(c) for c in (100, 150, 200, 250)), seed=seed)
        covered = np.zeros(found.size, bool)
        for annotation in found.annotations:
            x0, y0, x1, y1 = annotation["bbox"]
            rows = slice(max(0, int(y0) - 2), int(y1) + 3)  # enlarging blurs borders
            covered[rows, max(0, int(x0) - 2) : int(x1) + 3] = True
        assert (found.image[~covered] < 100).all()


def test_a_mosaic_of_labelled_pictures_is_labelled_throughout():
    parts = [picture(100, labels=number) for number in (1, 2, 3, 4)]
    found = mixed(Mosaic(1.0), *parts)
    assert np.unique(found.sem_seg).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("seed", range(4))
def test_mix_up_keeps_both_pictures_objects(seed):
    first, other = picture(200), picture(100, 40, 50, (10, 10, 20, 30))
    found = mixed(MixUp(1.0), first, other, seed=seed)
    assert [a["category_id"] for a in found.annotations] == [200, 100]
    x0, y0, x1, y1 = np.round(found.annotations[1]["bbox"]).astype(int)
    assert (x1 - x0, y1 - y0) == (20, 40)  # twice as large, as the frame allows
    assert found.image[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2].min() > GREY + 15
    assert first.image[30:70, 20:60].min() == 200  # the first is as it was


def test_mix_up_of_semantic_labels_is_refused():
    with pytest.raises(DataError, match=r"INPUT\.MIXUP cannot blend semantic labels"):
        mixed(MixUp(1.0), picture(200, labels=1), picture(100, labels=1))


def test_pasted_objects_cover_older_ones():
    seen = 0
    for seed in range(30):
        found = mixed(CopyPaste(1.0), picture(200), picture(100), seed=seed)
        if len(found.annotations) == 1:
            continue
        seen += 1
        old, new = found.annotations
        assert not (old["segmentation"] & new["segmentation"]).any()
        for annotation in (old, new):
            pixels = found.image[annotation["segmentation"]].astype(int)
            assert np.median(abs(pixels - annotation["category_id"])) <= 2
            rows, columns = np.nonzero(annotation["segmentation"])
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(annotation["bbox"], box, atol=1.01)
    assert seen > 5


def test_what_is_hidden_by_pasted_objects_is_dropped():
    small = picture(200, box=(48, 38, 52, 42))
    counts = {
        len(mixed(CopyPaste(1.0), small, picture(100, box=(0, 0, 100, 80)), seed=s).annotations)
        for s in range(20)
    }
    classes = {
        mixed(CopyPaste(1.0), small, picture(100, box=(0, 0, 100, 80)), seed=s).annotations[0][
            "category_id"
        ]
        for s in range(20)
    }
    assert counts <= {1, 2}
    assert classes == {100, 200}


@pytest.mark.parametrize("kind", [Mosaic, MixUp, CopyPaste])
def test_a_probability_of_a_half_is_one(kind):
    count = 0
    for seed in range(60):
        drawn = []
        np.random.seed(seed)
        kind(0.5)(picture(100), lambda d=drawn: d.append(1) or picture(200), AnnotationTransform())
        count += bool(drawn)
    assert 18 < count < 42


def test_rotated_boxes_are_mixed_too():
    rotated = picture(100)
    rotated.annotations[0] |= {"bbox": [50, 40, 30, 10, 30], "bbox_mode": BoxMode.XYWHA_ABS}
    found = mixed(MixUp(1.0), rotated, rotated)
    assert [len(a["bbox"]) for a in found.annotations] == [5, 5]


def test_through_the_mapper_all_of_the_data_set_is_drawn_from(tmp_path):
    items = []
    for number, colour in enumerate((100, 150, 200, 250)):
        made = picture(colour)
        path = str(tmp_path / f"{number}.png")
        cv2.imwrite(path, made.image)
        items.append(
            {
                "file_name": path,
                "height": 80,
                "width": 100,
                "image_id": number,
                "annotations": [{**made.annotations[0], "category_id": number}],
            }
        )
    cfg = get_cfg()
    cfg.merge_from_list(["INPUT.MOSAIC", 1.0, "INPUT.MIN_SIZE_TRAIN", (80,)])
    mapper = build_train_mapper(cfg, items)
    np.random.seed(0)
    seen = set()
    for _ in range(12):
        seen |= set(mapper(items[0])["instances"].gt_classes.tolist())
    assert seen == {0, 1, 2, 3}


def test_nothing_is_mixed_by_default():
    assert build_multi_image_augmentations(get_cfg()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["INPUT.MOSAIC", 1.5], r"INPUT\.MOSAIC is a probability from 0 to 1, got 1\.5"),
        (["INPUT.MIXUP", -0.1], r"INPUT\.MIXUP is a probability"),
        (["INPUT.MOSAIC", 0.5, "MODEL.LOAD_PROPOSALS", True], r"INPUT\.MOSAIC.*LOAD_PROPOSALS"),
        (["INPUT.COPY_PASTE", 0.5], r"INPUT\.COPY_PASTE.*MODEL\.MASK_ON"),
        (["INPUT.COPY_PASTE", 0.5, "MODEL.MASK_ON", True], "INPUT.MASK_FORMAT bitmask"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    cfg = get_cfg()
    cfg.merge_from_list(options)
    with pytest.raises(ConfigError, match=message):
        build_train_mapper(cfg)


def test_pictures_of_any_size_fit_into_a_mosaic():
    tiny, wide = picture(100, 1, 1, (0, 0, 1, 1)), picture(200, 3, 400, (0, 0, 400, 3))
    found = mixed(Mosaic(1.0), picture(150), tiny, wide, picture(250, 400, 3, (0, 0, 3, 400)))
    assert found.size == (80, 100)
