"""CVAT's XML of images: boxes, turned boxes, polygons, and what is neither."""

import pytest
from pycocotools import mask as coco_mask

from d2ext.data.formats import load_split, load_splits
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


def test_masks_are_runs_of_the_rows_of_their_box(tmp_path):
    mask = '<mask label="nut" rle="1, 2, 1, 2" left="4" top="5" width="3" height="2"/>'
    source = load_split(cvat(tmp_path, mask))
    (item,) = source.images[0]["annotations"]
    pixels = coco_mask.decode(item["segmentation"])
    assert (source.task, item["bbox"]) == ("masks", [5, 5, 2, 2])
    assert pixels[5:7, 4:7].tolist() == [[0, 1, 1], [0, 1, 1]]
    assert pixels.sum() == 4


def test_ellipses_are_polygons_turned_clockwise(tmp_path):
    ellipse = '<ellipse label="nut" cx="16" cy="12" rx="8" ry="4" rotation="90"/>'
    (item,) = load_split(cvat(tmp_path, ellipse)).images[0]["annotations"]
    assert item["bbox"] == pytest.approx([12, 4, 8, 16], abs=0.1)


def test_tracks_are_found_by_the_number_of_their_frame(tmp_path):
    for number in (0, 1, 2):
        save_image(tmp_path / "images" / f"frame_{number:06d}.png")
    box = '<box frame="{}" outside="{}" xtl="4" ytl="5" xbr="14" ybr="9" rotation="{}"/>'
    shapes = [box.format(0, 0, 0), box.format(1, 0, 30), box.format(2, 1, 0), box.format(9, 0, 0)]
    track = f'<track id="3" label="nut">{"".join(shapes)}</track>'
    write(tmp_path / "annotations.xml", f"<annotations>{track}</annotations>")
    source = load_split(tmp_path)
    found = [[item["bbox"] for item in image["annotations"]] for image in source.images]
    assert source.task == "rotated"
    assert found == [[[9, 7, 10, 4, 0]], [[9, 7, 10, 4, -30]], []]
    (issue,) = source.issues
    assert (issue.code, issue.detail) == ("object-orphan", "no image of frame 9")


def test_subsets_are_splits_of_one_kind_and_one_list_of_classes(tmp_path):
    for name in ("a", "b"):
        save_image(tmp_path / "images" / f"{name}.png")
    image = '<image id="0" name="{}.png" subset="{}" width="32" height="24">{}</image>'
    text = image.format("a", "Train", TURNED) + image.format("b", "Validation", POLYGON)
    write(tmp_path / "annotations.xml", f"<annotations>{text}</annotations>")
    found = load_splits(tmp_path)
    assert {split: (s.task, s.classes, len(s.images)) for split, s in found.items()} == {
        "train": ("masks", ("bolt", "nut"), 1),
        "val": ("masks", ("bolt", "nut"), 1),
    }


def test_a_mask_of_more_pixels_than_any_image_is_an_issue(tmp_path):
    mask = '<mask label="nut" rle="0, 4" left="0" top="0" width="2" height="2"/>'
    file = cvat(tmp_path, BOX, mask)
    file.write_text(file.read_text().replace('width="32"', 'width="4294967296"'))
    (issue,) = load_split(file).issues
    assert issue.code == "record-broken"


def skeleton(*points):
    inside = "".join(
        f'<points label="{name}" points="{place}" {more}/>' for name, place, more in points
    )
    return f'<skeleton label="man" z_order="0">{inside}</skeleton>'


FACE = skeleton(
    ("left eye", "20.5,5", 'outside="0" occluded="0"'),
    ("nose", "16,9", 'occluded="1"'),
    ("right eye", "12,5.5", 'outside="1"'),
)


def test_skeletons_are_keypoints_by_name(tmp_path):
    other = skeleton(("right eye", "4,4", ""), ("left eye", "8,4", ""), ("nose", "6,8", ""))
    source = load_split(cvat(tmp_path, FACE, other))
    first, second = source.images[0]["annotations"]
    assert (source.task, source.classes, source.issues) == ("keypoints", ("man",), [])
    assert source.metadata["keypoint_names"] == ["left eye", "nose", "right eye"]
    assert source.metadata["keypoint_flip_map"] == [("left eye", "right eye")]
    assert first["keypoints"] == [20.5, 5, 2, 16, 9, 1, 0, 0, 0]
    assert first["bbox"] == [16, 5, 4.5, 4]
    assert second["keypoints"] == [8, 4, 2, 6, 8, 2, 4, 4, 2]


def test_the_order_of_keypoints_is_that_of_the_tasks_labels(tmp_path):
    names = ["right eye", "nose", "left eye", "tail"]
    inner = "".join(f"<label><name>{n}</name><parent>man</parent></label>" for n in names)
    meta = f"<meta><labels><label><name>man</name></label>{inner}</labels></meta>"
    file = cvat(tmp_path, FACE)
    write(file, file.read_text().replace("<version>", f"{meta}<version>"))
    source = load_split(file)
    assert source.metadata["keypoint_names"] == names
    keypoints = source.images[0]["annotations"][0]["keypoints"]
    assert keypoints == [0, 0, 0, 16, 9, 1, 20.5, 5, 2, 0, 0, 0]


def test_a_skeleton_without_a_point_is_an_issue_and_polygons_stay_beside_others(tmp_path):
    source = load_split(cvat(tmp_path, skeleton(("nose", "1,1", 'outside="1"')), FACE, TURNED))
    assert [issue.code for issue in source.issues] == ["record-broken"]
    assert source.task == "keypoints"
    assert "segmentation" in source.images[0]["annotations"][1]


def test_skeletons_of_tracks_are_read_frame_by_frame(tmp_path):
    save_image(tmp_path / "frame_000000.png")
    shape = FACE.replace("<skeleton", '<skeleton frame="0"')
    text = f'<annotations><track id="0" label="man">{shape}</track></annotations>'
    source = load_split(write(tmp_path / "annotations.xml", text))
    assert source.images[0]["annotations"][0]["keypoints"][:3] == [20.5, 5, 2]


def test_points_on_a_line_have_a_box_of_a_pixel(tmp_path):
    source = load_split(cvat(tmp_path, skeleton(("a", "3,5", ""), ("b", "9,5", ""))))
    assert source.images[0]["annotations"][0]["bbox"] == [3, 4.5, 6, 1]
