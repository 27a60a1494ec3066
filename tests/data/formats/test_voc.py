"""Pascal VOC: both pixel conventions, image sets, rotated boxes, and XML that means harm."""

import math

import pytest

from d2ext.data.formats import load_split, load_splits
from d2ext.errors import DataError
from tests.helpers.dataset_folders import save_image, voc_box, voc_xml, write


def voc(folder, **files):
    """A data set with a JPEGImages/<name>.png for each XML."""
    for name, objects in files.items():
        save_image(folder / "JPEGImages" / f"{name}.png")
        write(folder / "Annotations" / f"{name}.xml", voc_xml(objects, f"{name}.png"))
    return folder


def boxes(source):
    return [item["bbox"] for image in source.images for item in image["annotations"]]


def test_pixels_count_from_one_where_no_corner_is_below_one(tmp_path):
    source = load_split(voc(tmp_path, a=voc_box("cat", "1 2 11 12")))
    assert boxes(source) == [[0.0, 1.0, 11.0, 11.0]]
    assert "count from 1" in source.notes[0]


@pytest.mark.parametrize("corners", ["0 2 11 12", "1.5 2 11 12", "-3 2 11 12"])
def test_corners_are_edges_where_one_of_any_split_cannot_count_from_one(tmp_path, corners):
    voc(tmp_path, a=voc_box("cat", "5 6 8 9"), b=voc_box("cat", corners))
    write(tmp_path / "ImageSets" / "Main" / "train.txt", "a\n")
    write(tmp_path / "ImageSets" / "Main" / "val.txt", "b\n")
    source = load_split(tmp_path, "train")
    assert boxes(source) == [[5.0, 6.0, 3.0, 3.0]]
    assert "edges" in source.notes[0]


def test_a_box_of_one_pixel_keeps_its_area(tmp_path):
    assert boxes(load_split(voc(tmp_path, a=voc_box("cat", "7 7 7 7")))) == [[6.0, 6.0, 1.0, 1.0]]


def test_image_sets_are_splits_and_lists_of_classes_are_not(tmp_path):
    voc(tmp_path, a=voc_box("cat", "1 1 2 2"), b=voc_box("dog", "1 1 2 2"))
    for name, stem in (("train", "a"), ("val", "b"), ("cat_train", "a"), ("trainval", "a")):
        write(tmp_path / "ImageSets" / "Main" / f"{name}.txt", f"{stem}\n")
    splits = load_splits(tmp_path)
    assert {split: s.classes for split, s in splits.items()} == {"train": ("cat",), "val": ("dog",)}


def test_an_image_that_is_listed_twice_is_read_once(tmp_path):
    voc(tmp_path, a=voc_box("cat", "1 1 2 2"))
    write(tmp_path / "ImageSets" / "Main" / "train.txt", "a\na 1\na.xml\n")
    assert len(load_split(tmp_path, "train").images) == 1


def test_a_listed_image_without_xml_is_told_with_its_line(tmp_path):
    voc(tmp_path, a=voc_box("cat", "1 1 2 2"))
    write(tmp_path / "ImageSets" / "Main" / "train.txt", "a\nmissing\n")
    (issue,) = load_split(tmp_path, "train").issues
    assert issue.code == "file-missing"
    assert "listed file without XML" in issue.detail
    assert issue.where.endswith("train.txt:2")


def test_a_folder_of_xml_beside_images_is_recognised_in_each_split(tmp_path):
    for split in ("train", "valid"):
        save_image(tmp_path / split / "a.png")
        write(tmp_path / split / "a.xml", voc_xml(voc_box("cat", "1 1 5 5")))
    splits = load_splits(tmp_path)
    assert list(splits) == ["train", "val"]
    assert splits["val"].images[0]["file_name"] == str(tmp_path / "valid" / "a.png")


def test_the_year_below_vocdevkit_is_found_and_two_are_refused(tmp_path):
    voc(tmp_path / "VOCdevkit" / "VOC2007", a=voc_box("cat", "1 1 5 5"))
    assert load_split(tmp_path).num_annotations == 1
    voc(tmp_path / "VOCdevkit" / "VOC2012", a=voc_box("cat", "1 1 5 5"))
    with pytest.raises(DataError, match=r"VOC2007, .*VOC2012. Name one"):
        load_split(tmp_path)


def test_difficult_objects_keep_their_flag(tmp_path):
    voc(tmp_path, a=voc_box("cat", "1 1 5 5", "<difficult>1</difficult>"))
    assert load_split(tmp_path).images[0]["annotations"][0]["difficult"] == 1


def test_rotated_boxes_turn_counter_clockwise_in_degrees(tmp_path):
    keys = {"cx": 10, "cy": 11, "w": 6, "h": 4, "angle": math.pi / 6}
    box = "".join(f"<{key}>{value}</{key}>" for key, value in keys.items())
    voc(tmp_path, a=f"<object><name>cat</name><robndbox>{box}</robndbox></object>")
    source = load_split(tmp_path)
    assert source.task == "rotated"
    assert boxes(source)[0] == pytest.approx([10, 11, 6, 4, -30])


@pytest.mark.parametrize("size", ["<size/>", "<size><width>0.5</width><height>20</height></size>"])
def test_a_size_that_is_missing_or_none_is_read_from_the_image(size, tmp_path):
    save_image(tmp_path / "a.png", 40, 30)
    write(tmp_path / "a.xml", voc_xml(voc_box("cat", "1 1 5 5"), size=size))
    image = load_split(tmp_path).images[0]
    assert (image["width"], image["height"]) == (40, 30)


@pytest.mark.parametrize(
    "content",
    [
        "<annotation><object></annotation>",
        '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotation>&b;</annotation>',
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation>&a;</annotation>',
    ],
)
def test_broken_xml_and_entities_are_a_fault_of_one_file(tmp_path, content):
    voc(tmp_path, a=voc_box("cat", "1 1 5 5"))
    write(tmp_path / "Annotations" / "b.xml", content)
    source = load_split(tmp_path)
    (issue,) = source.issues
    assert issue.code == "file-unreadable"
    assert issue.detail.startswith("broken XML")
    assert len(source.images) == 1


def test_an_object_without_a_box_is_told_with_its_number(tmp_path):
    voc(tmp_path, a=voc_box("cat", "1 1 5 5") + "<object><name>dog</name></object>")
    (issue,) = load_split(tmp_path).issues
    assert issue.code == "record-broken"
    assert "object without a box" in issue.detail
    assert issue.where.endswith("a.xml:object 2")


def test_a_list_of_names_that_are_all_missing_is_refused(tmp_path):
    voc(tmp_path, a=voc_box("cat", "1 1 5 5"))
    write(tmp_path / "ImageSets" / "Main" / "train.txt", "x\ny\n")
    with pytest.raises(DataError, match=r"none of the 2 names.*x\.xml"):
        load_split(tmp_path, "train")


@pytest.mark.parametrize("line", ["{}", "{} 1", "{}  -1", "{}.png", "{}.xml"])
@pytest.mark.parametrize("name", ["a", "weld seam (1)", "part 1"])
def test_lists_name_files_with_spaces_flags_or_suffixes(tmp_path, name, line):
    voc(tmp_path, **{name: voc_box("cat", "5 6 8 9"), "z": voc_box("cat", "5 6 8 9")})
    write(tmp_path / "ImageSets" / "Main" / "train.txt", line.format(name) + "\n")
    source = load_split(tmp_path, "train")
    assert (len(source.images), source.issues) == (1, [])
    assert source.images[0]["annotated_in"].endswith(f"{name}.xml")


@pytest.mark.parametrize("encoding", ["gb2312", "gbk", "utf-16", "windows-1252", "utf-8"])
def test_an_encoding_that_a_file_declares_is_used(tmp_path, encoding):
    name = "人" if encoding[0] in "gu" else "Schlüssel"
    save_image(tmp_path / "JPEGImages" / "a.png")
    text = f'<?xml version="1.0" encoding="{encoding}"?>'
    text += voc_xml(voc_box(name, "1 2 11 12"), "a.png")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "a.xml").write_bytes(text.encode(encoding))
    assert load_split(tmp_path).classes == (name,)


@pytest.mark.parametrize(
    "line", ["a\t1", "a   -1", "JPEGImages/a.png", "JPEGImages\\a.png", "./a.xml"]
)
def test_a_line_of_an_image_set_may_have_flags_folders_and_suffixes(tmp_path, line):
    voc(tmp_path, a=voc_box("cat", "1 2 11 12"))
    write(tmp_path / "ImageSets" / "Main" / "train.txt", f"{line}\n")
    source = load_split(tmp_path, "train")
    assert len(source.images) == 1
    assert not source.issues


def test_decimal_commas_are_edges_as_fractions_are(tmp_path):
    source = load_split(voc(tmp_path, a=voc_box("cat", "1,5 2 11 12,25")))
    assert boxes(source) == [[1.5, 2.0, 9.5, 10.25]]
    assert "edges" in source.notes[0]
    assert source.notes[1].startswith("2 numbers have a decimal comma")
