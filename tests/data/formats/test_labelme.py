"""labelme's JSON: its shapes, and what is none."""

import json

import pytest

from d2ext.data.formats import load_split
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
