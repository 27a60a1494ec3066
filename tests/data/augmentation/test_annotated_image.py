"""Annotations follow the image through every transform."""

import numpy as np
import pytest

from d2ext.data.augmentation.annotated_image import (
    AnnotatedImage,
    AnnotationTransform,
    is_mirrored,
    transform_rotated_boxes,
)
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from tests.helpers.box_corners import corners_of

H, W = 40, 60
TRANSFORMS = {
    "resize": T.ResizeTransform(H, W, 80, 120),
    "uneven": T.ResizeTransform(H, W, 80, 60),
    "mirror": T.HFlipTransform(W),
    "upside down": T.VFlipTransform(H),
    "crop": T.CropTransform(5, 3, 50, 30, W, H),
    "pad": T.PadTransform(7, 2, 3, 1, W, H),
    "tilt": T.RotationTransform(H, W, 25, expand=False),
    "turn": T.RotationTransform(H, W, 90, expand=True),
}


def annotation(**more):
    return {"bbox": [10, 12, 30, 28], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, **more}


def picture(*annotations):
    return AnnotatedImage(np.zeros((H, W, 3), np.uint8), list(annotations))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_box_polygon_mask_and_points_stay_together(name):
    mask = np.zeros((H, W), np.uint8)
    mask[12:28, 10:30] = 1
    corners = [10.0, 12, 30, 12, 30, 28, 10, 28]
    points = [[x, y, 2] for x, y in np.reshape(corners, (4, 2))]
    given = picture(annotation(segmentation=[corners], keypoints=points), annotation())
    given.annotations[1]["segmentation"] = mask
    by_polygon, by_mask = AnnotationTransform().apply(given, TRANSFORMS[name]).annotations
    transformed = np.reshape(by_polygon["segmentation"][0], (-1, 2))
    box = np.concatenate([transformed.min(0), transformed.max(0)])
    np.testing.assert_allclose(by_polygon["bbox"], box, atol=1e-4)
    np.testing.assert_allclose(by_polygon["keypoints"][:, :2].min(0), box[:2], atol=1e-4)
    rows, columns = np.nonzero(by_mask["segmentation"])
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(found, box, atol=1.0)


@pytest.mark.parametrize("name", sorted(TRANSFORMS.keys() - {"uneven"}))
def test_a_rotated_boxs_corners_move_as_points_do(name):
    box = np.array([[25.0, 20.0, 16.0, 6.0, 35.0]])
    transformed = transform_rotated_boxes(TRANSFORMS[name], box)
    expected = TRANSFORMS[name].apply_coords(corners_of(box[0]))
    found = corners_of(transformed[0])
    distance = np.linalg.norm(found[:, None] - expected[None], axis=-1)
    assert distance.min(axis=0).max() < 1e-4


@pytest.mark.parametrize("name", ["resize", "uneven", "mirror"])
def test_rotated_boxes_move_as_in_detectron2_where_it_can(name):
    boxes = np.array([[25.0, 20.0, 16.0, 6.0, 35.0], [5, 5, 3, 9, -120]])
    expected = TRANSFORMS[name].apply_rotated_box(boxes.copy())
    found = transform_rotated_boxes(TRANSFORMS[name], boxes)
    np.testing.assert_allclose(found[:, :4], expected[:, :4], atol=1e-4)
    turned = (found[:, 4] - expected[:, 4] + 180) % 360 - 180
    np.testing.assert_allclose(turned, 0, atol=1e-4)


def test_mirrors_are_recognised():
    assert {name for name, transform in TRANSFORMS.items() if is_mirrored(transform)} == {
        "mirror",
        "upside down",
    }
    both = T.TransformList([TRANSFORMS["mirror"], TRANSFORMS["upside down"]])
    assert not is_mirrored(both)


@pytest.mark.parametrize("name", ["mirror", "upside down", "turn"])
def test_left_and_right_points_change_places_in_a_mirror(name):
    points = [[10, 12, 2], [30, 28, 1]]
    given = picture(annotation(keypoints=points))
    transform = AnnotationTransform(keypoint_flips=[1, 0])
    seen = transform.apply(given, TRANSFORMS[name]).annotations[0]["keypoints"][:, 2]
    assert seen.tolist() == ([2, 1] if name == "turn" else [1, 2])


def test_points_that_leave_the_image_become_unlabelled():
    given = picture(annotation(keypoints=[[1, 1, 2], [30, 20, 2]]))
    points = AnnotationTransform().apply(given, TRANSFORMS["crop"]).annotations[0]["keypoints"]
    assert points.tolist() == [[0, 0, 0], [25, 17, 2]]


@pytest.mark.parametrize("mode", [BoxMode.XYXY_ABS, BoxMode.XYWHA_ABS])
@pytest.mark.parametrize(("left", "kept"), [(14, 1), (18, 0), (30, 0)])
def test_objects_of_which_too_little_is_left_are_dropped(mode, left, kept):
    box = [10, 10, 20, 20] if mode == BoxMode.XYXY_ABS else [15, 15, 10, 10, 90]
    given = picture({**annotation(), "bbox": box, "bbox_mode": mode})
    crop = T.CropTransform(left, 0, W - left, H, W, H)
    assert len(AnnotationTransform(min_visible=0.5).apply(given, crop).annotations) == kept


def test_a_rotated_box_is_not_clipped():
    given = picture({**annotation(), "bbox": [15, 15, 10, 4, 45], "bbox_mode": BoxMode.XYWHA_ABS})
    crop = T.CropTransform(14, 0, W - 14, H, W, H)
    found = AnnotationTransform(min_visible=0.1).apply(given, crop).annotations[0]["bbox"]
    np.testing.assert_allclose(found, [1, 15, 10, 4, 45], atol=1e-6)


def test_the_given_picture_is_not_changed():
    given = picture(annotation(segmentation=[[1.0, 2, 9, 2, 9, 8]], keypoints=[[3, 4, 2]]))
    before = repr(given.annotations)
    for transform in TRANSFORMS.values():
        AnnotationTransform().apply(given, transform)
    assert repr(given.annotations) == before
