"""labelme's JSON: its shapes, and what is none."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from d2ext.data.formats import load_split, load_splits
from tests.helpers.dataset_folders import save_image, write


def labelme(folder, *shapes, name="a"):
    save_image(folder / f"{name}.png")
    content = {"version": "5.0", "shapes": list(shapes), "imagePath": f"{name}.png"}
    content |= {"imageHeight": 24, "imageWidth": 32, "imageData": None}
    write(folder / f"{name}.json", json.dumps(content))
    return folder


def shape(kind, points, label="cat"):
    return {"label": label, "shape_type": kind, "points": points}


def test_polygons_are_masks_with_the_box_around_them(tmp_path):
    source = load_split(labelme(tmp_path, shape("polygon", [[1, 2], [5, 2], [5, 8]])))
    (item,) = source.images[0]["annotations"]
    assert (source.task, source.classes) == ("masks", ("cat",))
    assert (item["bbox"], item["segmentation"]) == ([1, 2, 4, 6], [[1, 2, 5, 2, 5, 8]])


def test_rectangles_are_boxes_whatever_their_corners(tmp_path):
    source = load_split(labelme(tmp_path, shape("rectangle", [[9, 8], [3, 4]])))
    assert source.task == "boxes"
    assert source.images[0]["annotations"][0]["bbox"] == [3, 4, 6, 4]


def test_circles_are_polygons(tmp_path):
    source = load_split(labelme(tmp_path, shape("circle", [[10, 10], [10, 15]])))
    assert source.images[0]["annotations"][0]["bbox"] == pytest.approx([5, 5, 10, 10], abs=0.1)


def test_lines_and_points_are_told(tmp_path):
    source = load_split(
        labelme(tmp_path, shape("line", [[1, 1], [2, 2]]), shape("rectangle", [[1, 1], [2, 2]]))
    )
    (issue,) = source.issues
    assert issue.code == "record-broken"
    assert issue.detail.startswith("shape that is no region: line")
    assert issue.where.endswith("a.json:shape 1")


def test_a_broken_file_is_told_and_the_others_are_read(tmp_path):
    labelme(tmp_path, shape("rectangle", [[1, 1], [2, 2]]))
    write(tmp_path / "b.json", '{"shapes": [')
    source = load_split(tmp_path)
    (issue,) = source.issues
    assert issue.code == "file-unreadable"
    assert issue.detail.startswith("broken labelme file")
    assert len(source.images) == 1


@pytest.mark.parametrize("shapes", [5, [1], "polygon"])
def test_a_file_whose_shapes_are_none_is_told(tmp_path, shapes):
    write(tmp_path / "a.json", json.dumps({"shapes": shapes}))
    (issue,) = load_split(tmp_path).issues
    assert issue.code == "file-unreadable"


def test_shapes_of_one_label_and_group_are_one_object(tmp_path):
    left = shape("polygon", [[1, 2], [5, 2], [5, 8]]) | {"group_id": 0}
    right = shape("polygon", [[11, 3], [15, 3], [15, 9]]) | {"group_id": 0}
    other = shape("polygon", [[1, 2], [5, 2], [5, 8]], "dog") | {"group_id": 0}
    alone = shape("polygon", [[1, 2], [5, 2], [5, 8]]) | {"group_id": None}
    source = load_split(labelme(tmp_path, left, right, other, alone))
    joined, dog, single = source.images[0]["annotations"]
    assert joined["bbox"] == [1, 2, 14, 7]
    assert joined["segmentation"] == [[1, 2, 5, 2, 5, 8], [11, 3, 15, 3, 15, 9]]
    assert [len(item["segmentation"]) for item in (dog, single)] == [1, 1]


def test_a_rectangle_is_a_part_of_an_object_with_a_mask(tmp_path):
    polygon = shape("polygon", [[1, 2], [5, 2], [5, 8]]) | {"group_id": 3}
    rectangle = shape("rectangle", [[7, 2], [9, 4]]) | {"group_id": 3}
    (item,) = load_split(labelme(tmp_path, rectangle, polygon)).images[0]["annotations"]
    assert item["segmentation"] == [[7, 2, 9, 2, 9, 4, 7, 4], [1, 2, 5, 2, 5, 8]]


def png_in_base64(pixels):
    stream = io.BytesIO()
    Image.fromarray(np.array(pixels, np.uint8) * 255).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def test_masks_of_ai_tools_are_placed_by_their_corners(tmp_path):
    mask = shape("mask", [[4, 5], [6, 6]]) | {"mask": png_in_base64([[0, 1, 1], [0, 0, 1]])}
    source = load_split(labelme(tmp_path, mask))
    (item,) = source.images[0]["annotations"]
    pixels = coco_mask.decode(item["segmentation"])
    assert (source.task, item["bbox"]) == ("masks", [5, 5, 2, 2])
    assert (pixels[5, 5], pixels[5, 6], pixels[6, 6], pixels.sum()) == (1, 1, 1, 3)


def test_a_mask_and_a_polygon_of_one_group_are_one_mask(tmp_path):
    mask = shape("mask", [[4, 5], [5, 6]]) | {"mask": png_in_base64([[1, 1], [1, 1]])}
    polygon = shape("polygon", [[10, 10], [14, 10], [14, 14], [10, 14]])
    source = load_split(labelme(tmp_path, mask | {"group_id": 1}, polygon | {"group_id": 1}))
    (item,) = source.images[0]["annotations"]
    assert item["bbox"] == [4, 5, 10, 9]
    assert coco_mask.area(item["segmentation"]) == 4 + 16


def test_a_mask_that_is_no_picture_is_an_issue(tmp_path):
    mask = shape("mask", [[4, 5], [6, 6]]) | {"mask": "AAAA"}
    (issue,) = load_split(labelme(tmp_path, mask)).issues
    assert issue.code == "record-broken"


def test_rotation_shapes_are_boxes_with_an_angle_in_every_split(tmp_path):
    turned = shape("rotation", [[10, 4], [14, 8], [10, 12], [6, 8]])
    labelme(tmp_path / "train", turned, shape("rectangle", [[1, 1], [5, 5]]))
    labelme(tmp_path / "val", shape("rectangle", [[1, 1], [5, 5]]))
    found = load_splits(tmp_path)
    assert {split: source.task for split, source in found.items()} == {
        "train": "rotated",
        "val": "rotated",
    }
    (first, second) = found["train"].images[0]["annotations"]
    assert first["bbox"] == pytest.approx([10, 8, 32**0.5, 32**0.5, -45])
    assert second["bbox"] == [3, 3, 4, 4, 0]


def test_rotation_shapes_are_polygons_where_another_split_has_masks(tmp_path):
    labelme(tmp_path / "train", shape("rotation", [[10, 4], [14, 8], [10, 12], [6, 8]]))
    labelme(tmp_path / "val", shape("polygon", [[1, 1], [5, 1], [5, 5]]))
    train = load_splits(tmp_path)["train"]
    (item,) = train.images[0]["annotations"]
    assert (train.task, item["bbox"]) == ("masks", pytest.approx([6, 4, 8, 8]))
    assert len(item["segmentation"][0]) == 8


def grouped(kind, points, label, group=1, **more):
    return shape(kind, points, label) | {"group_id": group} | more


PERSON = grouped("rectangle", [[2, 2], [12, 22]], "person")
LEFT = grouped("point", [[4, 5]], "left_eye")
RIGHT = grouped("point", [[8, 5.5]], "right_eye", difficult=True)


def test_points_of_a_group_are_keypoints_of_its_rectangle(tmp_path):
    other = grouped("rectangle", [[20, 2], [30, 22]], "person", 2)
    nose = grouped("point", [[25, 8]], "nose", 2)
    alone = shape("rectangle", [[1, 1], [5, 5]], "dog")
    source = load_split(labelme(tmp_path, LEFT, PERSON, RIGHT, nose, other, alone))
    person, second, dog = source.images[0]["annotations"]
    assert (source.task, source.classes, source.issues) == ("keypoints", ("dog", "person"), [])
    assert source.metadata["keypoint_names"] == ["left_eye", "right_eye", "nose"]
    assert source.metadata["keypoint_flip_map"] == [("left_eye", "right_eye")]
    assert person["keypoints"] == [4, 5, 2, 8, 5.5, 1, 0, 0, 0]  # a difficult point is occluded
    assert second["keypoints"] == [0, 0, 0, 0, 0, 0, 25, 8, 2]
    assert person["bbox"] == [2, 2, 10, 20]
    assert "keypoints" not in dog


def test_points_of_a_polygon_are_keypoints_of_an_object_with_a_mask(tmp_path):
    polygon = grouped("polygon", [[2, 2], [12, 2], [12, 22]], "person")
    source = load_split(labelme(tmp_path, polygon, LEFT))
    (item,) = source.images[0]["annotations"]
    assert (source.task, item["keypoints"]) == ("keypoints", [4, 5, 2])
    assert item["segmentation"] == [[2, 2, 12, 2, 12, 22]]


@pytest.mark.parametrize(
    ("point", "message"),
    [
        (shape("point", [[4, 5]], "eye"), "point that belongs to no object by its group_id"),
        (grouped("point", [[4, 5]], "eye", 7), "point that belongs to no object by its group_id"),
        (grouped("point", [[4, 5]], "eye", 3), "point that belongs to several objects"),
        (grouped("point", [[4, 5]], ""), "point without a label"),
        (grouped("point", [[4, 5], [6, 7]], "eye"), "point without a place"),
        (grouped("point", [["x", 5]], "eye"), "point without a place"),
        (LEFT, "second point of that name in an object"),
    ],
)
def test_a_point_that_is_no_keypoint_is_an_issue(tmp_path, point, message):
    box = [[2, 2], [12, 22]]
    two = grouped("rectangle", box, "person", 3), grouped("rectangle", box, "dog", 3)
    source = load_split(labelme(tmp_path, PERSON, LEFT, *two, point))
    (issue,) = source.issues
    assert (issue.code, issue.where.endswith("a.json:shape 5")) == ("record-broken", True)
    assert issue.detail.startswith(message)
    assert source.metadata["keypoint_names"] == ["left_eye"]


def test_points_without_objects_leave_the_task_as_it_is(tmp_path):
    source = load_split(labelme(tmp_path, shape("rectangle", [[1, 1], [5, 5]]), LEFT))
    assert (source.task, source.metadata, len(source.issues)) == ("boxes", {}, 1)


def test_splits_have_one_list_of_keypoints(tmp_path):
    labelme(tmp_path / "train", PERSON, RIGHT)
    labelme(tmp_path / "val", PERSON, LEFT)
    labelme(tmp_path / "test", PERSON)
    found = load_splits(tmp_path)
    assert {source.task for source in found.values()} == {"keypoints"}
    lists = [source.metadata["keypoint_names"] for source in found.values()]
    assert lists == [["right_eye", "left_eye"]] * 3
    assert found["val"].images[0]["annotations"][0]["keypoints"] == [0, 0, 0, 4, 5, 2]
