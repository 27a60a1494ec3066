"""Every augmentation, on objects of any shape and place: box, polygon and rotated box agree."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2ext.data.augmentation.annotated_image import AnnotatedImage, AnnotationTransform
from d2ext.data.augmentation.multi_image import CopyPaste, MixUp, Mosaic
from d2ext.data.augmentation.single_image import RandomRotation, ScaleJitter
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from tests.helpers.box_corners import corners_of

H, W = 48, 64
AUGMENTATIONS = {
    "resize": T.ResizeShortestEdge([32, 80], 100, "range"),
    "horizontal flip": T.RandomFlip(1.0),
    "vertical flip": T.RandomFlip(1.0, horizontal=False, vertical=True),
    "crop": T.RandomCrop("relative_range", (0.3, 0.3)),
    "tilt": RandomRotation(40.0),
    "scale jitter": ScaleJitter(0.5, 2.0),
    "extent": T.RandomExtent((0.8, 1.2), (0.2, 0.2)),
    "colours": T.RandomBrightness(0.5, 1.5),
}
sides = st.floats(2.0, 30.0)
places = st.tuples(st.floats(1.0, W - 1.0), st.floats(1.0, H - 1.0))
seeds = st.integers(0, 2**32 - 1)


def rotated_object(centre, width, height, angle):
    """A rotated box, and as an upright one: its outline and what encloses that."""
    outline = corners_of([*centre, width, height, angle])
    rotated = {"bbox_mode": BoxMode.XYWHA_ABS, "bbox": [*centre, width, height, angle]}
    upright = {
        "bbox_mode": BoxMode.XYXY_ABS,
        "bbox": [*outline.min(0), *outline.max(0)],
        "segmentation": [outline.reshape(-1)],
    }
    return [{**rotated, "category_id": 0}, {**upright, "category_id": 1}]


@pytest.mark.parametrize("name", AUGMENTATIONS)
@settings(max_examples=25, deadline=None)
@given(places, sides, sides, st.floats(-180, 180), seeds)
def test_rotated_boxes_polygons_and_boxes_agree(name, centre, width, height, angle, seed):
    picture = AnnotatedImage(
        np.zeros((H, W, 3), np.uint8), rotated_object(centre, width, height, angle)
    )
    np.random.seed(seed)
    pipeline = T.AugmentationList([AUGMENTATIONS[name]])
    found, _ = AnnotationTransform(min_visible=-1.0).augment(picture, pipeline)
    rotated, upright = found.annotations
    limits = np.array(found.size[::-1], dtype=float)
    outline = corners_of(rotated["bbox"])
    inside = upright["bbox"]
    assert (inside[:2] >= 0).all()
    assert (inside[2:] <= limits).all()
    for polygon in upright["segmentation"]:
        points = np.reshape(polygon, (-1, 2))
        # Within the upright box, up to where uneven rounding of a resize bends right angles.
        assert (points >= outline.min(0) - 0.75).all()
        assert (points <= outline.max(0) + 0.75).all()
    clipped = np.clip(np.concatenate([outline.min(0), outline.max(0)]), 0, np.tile(limits, 2))
    if name != "tilt":  # which encloses the box's own corners, not the object's
        np.testing.assert_allclose(inside, clipped, atol=0.75)
    else:
        assert (inside[:2] <= clipped[:2] + 1e-3).all()
        assert (inside[2:] >= clipped[2:] - 1e-3).all()


@pytest.mark.parametrize("kind", [Mosaic, MixUp, CopyPaste])
@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(places, sides, sides, st.floats(-90, 90)), min_size=4, max_size=4), seeds)
def test_mixed_pictures_keep_everything_inside(kind, objects, seed):
    pictures = [
        AnnotatedImage(np.full((H, W, 3), 50, np.uint8), rotated_object(*one)[1:])
        for one in objects
    ]
    rest = iter(pictures[1:])
    np.random.seed(seed)
    transform = AnnotationTransform(min_visible=0.1)
    found = transform.apply(kind(1.0)(pictures[0], lambda: next(rest), transform))
    assert found.size == (H, W)
    for annotation in found.annotations:
        x0, y0, x1, y1 = annotation["bbox"]
        assert 0 <= x0 <= x1 <= W
        assert 0 <= y0 <= y1 <= H
