"""CVAT's XML of images: boxes, turned boxes, polygons, and what is neither."""

import pytest

from d2ext.data.formats import load_split
from d2ext.errors import DataError
from tests.helpers.dataset_folders import save_image, write

BOX = '<box label="nut" xtl="4" ytl="5" xbr="14.5" ybr="9"/>'
TURNED = '<box label="nut" xtl="4" ytl="5" xbr="14" ybr="9" rotation="30.0"/>'
POLYGON = '<polygon label="bolt" points="1.0,2.0;5.0,2.0;5.0,8.0"/>'


def cvat(folder, *shapes):
    save_image(folder / "images" / "a.png")
    image = f'<image id="0" name="a.png" width="32" height="24">{"".join(shapes)}</image>'
    text = f'<?xml version="1.0"?><annotations><version>1.1</version>{image}</annotations>'
    return write(folder / "annotations.xml", text)


@pytest.mark.parametrize("named", [True, False])
def test_boxes_are_read_from_the_file_or_its_folder(tmp_path, named):
    file = cvat(tmp_path, BOX, '<tag label="x"/>')
    source = load_split(file if named else tmp_path)
    (image,) = source.images
    assert image["file_name"] == str(tmp_path / "images" / "a.png")
    assert (source.task, source.classes, source.issues) == ("boxes", ("nut",), [])
    assert image["annotations"][0]["bbox"] == [4, 5, 10.5, 4]


def test_a_turned_box_gives_all_boxes_an_angle(tmp_path):
    source = load_split(cvat(tmp_path, TURNED, BOX))
    boxes = [item["bbox"] for item in source.images[0]["annotations"]]
    assert source.task == "rotated"
    assert boxes == [[9, 7, 10, 4, -30], [9.25, 7, 10.5, 4, 0]]


def test_a_turned_box_among_polygons_is_a_polygon(tmp_path):
    source = load_split(cvat(tmp_path, POLYGON, TURNED, BOX))
    polygon, turned, box = source.images[0]["annotations"]
    assert source.task == "masks"
    assert (polygon["bbox"], polygon["segmentation"]) == ([1, 2, 4, 6], [[1, 2, 5, 2, 5, 8]])
    assert (len(turned["bbox"]), len(turned["segmentation"][0])) == (4, 8)
    assert "segmentation" not in box


@pytest.mark.parametrize(
    "shape", ['<points label="nut" points="1,2"/>', '<polygon label="nut" points="1,2;3"/>']
)
def test_other_shapes_are_issues(tmp_path, shape):
    (issue,) = load_split(cvat(tmp_path, BOX, shape)).issues
    assert (issue.code, issue.where.rpartition(":")[2]) == ("record-broken", "image 0, shape 2")


def test_tracks_of_a_video_are_refused_with_the_export_to_choose(tmp_path):
    text = "<annotations><version>1.1</version><track/></annotations>"
    with pytest.raises(DataError, match="Export the task from CVAT as COCO"):
        load_split(write(tmp_path / "annotations.xml", text))
