"""Flags and numbers that are written as text."""

import json

import pytest

from d2ext.data.formats import load_split
from d2ext.data.formats.values import as_id, as_numbers, as_size, is_true, number_words
from tests.helpers.dataset_folders import save_image, voc_box, voc_xml, write

TRUE = [1, True, 1.0, "1", "true", " True ", "yes", "1.0"]
FALSE = [0, False, None, "", "0", "False", "no", "0.0", "Unspecified"]


def test_flags_are_parsed():
    assert all(map(is_true, TRUE))
    assert not any(map(is_true, FALSE))


def test_numbers_may_be_text():
    assert as_numbers(["1", 2, "3.5"]) == [1, 2, 3.5]
    assert as_numbers("[1, 2.5]") == as_numbers("1,2.5") == as_numbers("1 2.5") == [1, 2.5]
    assert as_numbers(["a"]) is as_numbers([None]) is as_numbers("a") is None
    assert [as_id(value) for value in ("3", 3.0, 3, "a", "3.5", None)] == [
        3,
        3,
        3,
        "a",
        "3.5",
        None,
    ]


def test_a_size_is_two_numbers_of_at_least_one_pixel():
    assert as_size(["32", 24.0]) == (32, 24)
    for wrong in ([32, 0.5], [32], [], [32, None], [32, "inf"], [0, 24], ["a", 24]):
        assert as_size(wrong) is None


def test_sizes_below_one_pixel_are_read_from_the_image(tmp_path):
    coco(tmp_path)
    text = (tmp_path / "a.json").read_text().replace('"height": 24', '"height": 0.5')
    (tmp_path / "a.json").write_text(text)
    (image,) = load_split(str(tmp_path / "a.json")).images
    assert (image["width"], image["height"]) == (32, 24)


def coco(folder, category=1, **changes):
    save_image(folder / "a.png")
    item = {"id": 1, "image_id": 5, "category_id": 1, "bbox": [1, 2, 8, 4], "area": 32}
    images = [{"id": 5, "file_name": "a.png", "width": 32, "height": 24}]
    content = {"info": {}, "images": images, "annotations": [{**item, "iscrowd": 0, **changes}]}
    content["categories"] = [{"id": category, "name": "cat"}, {"id": 10, "name": "dog"}]
    write(folder / "a.json", json.dumps(content))
    return load_split(folder / "a.json")


@pytest.mark.parametrize(
    ("key", "value", "crowd"),
    [("iscrowd", "0", 0), ("iscrowd", "1", 1), ("iscrowd", False, 0), ("ignore", "false", 0)],
)
def test_crowd_regions_of_coco_are_parsed(tmp_path, key, value, crowd):
    (item,) = coco(tmp_path, **{key: value}).images[0]["annotations"]
    assert item["iscrowd"] == crowd


@pytest.mark.parametrize(
    "changes",
    [
        {"image_id": "5"},
        {"category_id": "1"},
        {"category": "1"},
        {"category": "1", "category_id": "1"},
        {"bbox": ["1", "2", "8", "4"]},
        {"bbox": {"x": 1, "y": 2, "width": 8, "height": "4"}},
        {"image_id": "5.0"},
        {"category_id": "cat"},
        {"bbox": "[1, 2, 8, 4]"},
        {"image_id": 5.0, "category_id": 1.0},
        {"segmentation": ["1", "2", "9", "2", "9", "6", "1", "6"]},
        {"segmentation": [[1, 2], [9, 2], [9, 6], [1, 6]]},
        {"segmentation": [["1", 2, 9, 2, "9", 6, 1, 6]], "area": "32"},
        {"segmentation": [1, 2, 9, 2, 9, 6, 1, 6], "iscrowd": "0"},
    ],
)
def test_ids_and_boxes_of_coco_may_be_text(tmp_path, changes):
    found = coco(tmp_path, **changes)
    (item,) = found.images[0]["annotations"]
    assert (found.issues, found.refusal, found.coco_file) == ([], "", None) or "category" in changes
    assert (item["bbox"], item["category_id"], item["iscrowd"]) == ([1, 2, 8, 4], 0, 0)
    assert item.get("segmentation") in (None, [[1, 2, 9, 2, 9, 6, 1, 6]])


@pytest.mark.parametrize(("text", "difficult"), [("False", None), ("no", None), ("True", 1)])
def test_the_flag_difficult_of_voc_is_parsed(tmp_path, text, difficult):
    objects = voc_box("cat", "1 2 11 12").replace(
        "<bndbox>", f"<difficult>{text}</difficult><bndbox>"
    )
    save_image(tmp_path / "JPEGImages" / "a.png")
    write(tmp_path / "Annotations" / "a.xml", voc_xml(objects, "a.png"))
    (item,) = load_split(tmp_path).images[0]["annotations"]
    assert item.get("difficult") == difficult


def test_classes_of_dota_may_hold_spaces(tmp_path):
    save_image(tmp_path / "images" / "a.png")
    write(tmp_path / "labelTxt" / "a.txt", "4 4 12 4 12 8 4 8 small vehicle 1\n" * 2)
    found = load_split(tmp_path)
    assert found.classes == ("small vehicle",)
    assert [item["difficult"] for item in found.images[0]["annotations"]] == [1, 1]


def test_a_box_of_cvat_is_turned_clockwise_by_its_attribute(tmp_path):
    found = coco(tmp_path, attributes={"rotation": 30.0, "occluded": False}, segmentation=[])
    (item,) = found.images[0]["annotations"]
    assert (found.task, item["bbox"]) == ("rotated", [5, 4, 8, 4, -30])
    assert "1 boxes are turned" in found.notes[0]


@pytest.mark.parametrize("rotation", [0, 0.0, 360, "0", None, "x", float("nan"), []])
def test_a_box_that_is_not_turned_stays_upright(tmp_path, rotation):
    found = coco(tmp_path, attributes={"rotation": rotation})
    assert (found.task, found.notes) == ("boxes", [])


def test_a_turned_box_among_masks_is_a_mask(tmp_path):
    coco(tmp_path)
    content = json.loads((tmp_path / "a.json").read_text())
    content["annotations"][0]["attributes"] = {"rotation": 90}
    masked = {"id": 2, "segmentation": [[1, 1, 5, 1, 5, 5]], "bbox": [1, 1, 4, 4]}
    content["annotations"].append({**content["annotations"][0], **masked})
    write(tmp_path / "a.json", json.dumps(content))
    found = load_split(tmp_path / "a.json")
    assert found.task == "masks"
    assert found.images[0]["annotations"][0]["bbox"] == pytest.approx([3, 0, 4, 8])


def test_sizes_keypoints_and_run_lengths_of_coco_may_be_text(tmp_path):
    coco(tmp_path)
    content = json.loads((tmp_path / "a.json").read_text())
    content["images"][0] |= {"width": "32", "height": "24.0"}
    content["categories"][0]["keypoints"] = ["nose"]
    runs = {"size": ["24", "32"], "counts": ["0", "24", 744], "extra": 1}
    content["annotations"][0] |= {"keypoints": ["3", "4", "2"], "segmentation": runs}
    write(tmp_path / "a.json", json.dumps(content))
    found = load_split(tmp_path / "a.json")
    (image,) = found.images
    (item,) = image["annotations"]
    assert (image["width"], image["height"], found.refusal) == (32, 24, "")
    assert item["keypoints"] == [3.5, 4.5, 2]
    assert item["segmentation"]["size"] == [24, 32]
    assert (found.issues, found.coco_file) == ([], None)


def test_images_of_lvis_are_found_by_their_address(tmp_path):
    save_image(tmp_path / "train2017" / "a.png")
    coco(tmp_path)
    content = json.loads((tmp_path / "a.json").read_text())
    address = "http://images.cocodataset.org/train2017/a.png"
    content["images"] = [{"id": 5, "coco_url": address, "width": 32, "height": 24}]
    (tmp_path / "a.png").unlink()
    write(tmp_path / "a.json", json.dumps(content))
    found = load_split(tmp_path / "a.json")
    assert found.images[0]["file_name"] == str(tmp_path / "train2017" / "a.png")
    assert found.refusal == ""


@pytest.mark.parametrize(("of_object", "classes"), [(1, ("cat", "dog")), (0, None)])
def test_the_empty_group_of_all_classes_is_no_class(tmp_path, of_object, classes):
    coco(tmp_path)
    content = json.loads((tmp_path / "a.json").read_text())
    for item in content["categories"]:
        item["supercategory"] = "animals"
    content["categories"].insert(0, {"id": 0, "name": "animals", "supercategory": "none"})
    content["annotations"][0]["category_id"] = of_object
    write(tmp_path / "a.json", json.dumps(content))
    found = load_split(tmp_path / "a.json")
    assert found.classes == (classes or ("animals", "cat", "dog"))
    assert any("it is no class" in note for note in found.notes) is (classes is not None)
    assert (found.coco_file is None) is (classes is not None)


def test_keypoints_without_names_are_numbered_and_have_no_pairs(tmp_path):
    found = coco(tmp_path, keypoints=[3, 4, 2, 5, 6, 2], num_keypoints=2)
    assert found.metadata["keypoint_names"] == ["point_0", "point_1"]
    assert found.metadata["keypoint_flip_map"] == []


def test_decimal_commas_are_read_where_they_can_mean_nothing_else():
    assert as_numbers(["12,5", "3", 4, "0,25"]) == [12.5, 3, 4, 0.25]
    assert as_numbers(["1,250", "0,5"]) == [1.25, 0.5]  # the second is no 05 thousand
    assert as_numbers(["5,0E-01", "2,5e1"]) == [0.5, 25]
    assert as_numbers(["1,234"]) is as_numbers(["1,234", "2.5"]) is as_numbers(["1,2,3"]) is None
    assert as_numbers(["1,5", "2.5"]) is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0,5 0,5 0,1 0,1", "0 0.5 0.5 0.1 0.1"),
        ("0;0,5;0,5;0,1;0,1", "0 0.5 0.5 0.1 0.1"),
        ("0,0.5,0.5,0.1,0.1", "0 0.5 0.5 0.1 0.1"),
        ("0, 0.5, 0.5, 0.1, 0.1", "0 0.5 0.5 0.1 0.1"),
        ("0 0.1,0.2 0.3,0.4 0.5,0.6", "0 0.1 0.2 0.3 0.4 0.5 0.6"),
        ("0 0.5 0.5 1e-1 .1", "0 0.5 0.5 1e-1 .1"),
        ("0,0,5,0,5,0,1,0,1", "0,0,5,0,5,0,1,0,1"),  # nine numbers, or five
        (",", ""),
    ],
)
def test_a_line_of_numbers_is_split_at_what_separates_them(line, words):
    assert number_words(line) == words.split()


def test_boxes_of_coco_have_decimal_commas_and_a_note_says_so(tmp_path):
    source = coco(tmp_path, bbox=["12,5", "2,5", "8", "4,25"])
    assert source.images[0]["annotations"][0]["bbox"] == [12.5, 2.5, 8, 4.25]
    assert "3 numbers have a decimal comma, as in 12,5, and are read as 12.5 is" in source.notes
    assert source.coco_file is None
    source = coco(tmp_path / "text", bbox="12,5 2,5 8 4,25")
    assert source.images[0]["annotations"][0]["bbox"] == [12.5, 2.5, 8, 4.25]


def test_what_may_be_thousands_is_left_out_as_before(tmp_path):
    source = coco(tmp_path, bbox=["1,234", "2", "8", "4"])
    assert [issue.code for issue in source.issues] == ["record-broken"]
