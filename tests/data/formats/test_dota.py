"""DOTA's text, and corners that become rotated boxes and back."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2ext.data.formats import load_split, load_splits
from d2ext.data.formats.corners import corners_of, long_side_first, rotated_box
from d2ext.errors import DataError
from tests.helpers.dataset_folders import save_image, write

LINE = "4 4 12 4 12 8 4 8 small-vehicle 1\n"
BOXES = st.tuples(
    st.floats(0, 500), st.floats(0, 500), st.floats(3, 300), st.floats(3, 300), st.floats(-179, 179)
)


def test_lines_become_rotated_boxes_behind_the_headers(tmp_path):
    save_image(tmp_path / "images" / "a.png")
    write(tmp_path / "labelTxt" / "a.txt", f"imagesource:GoogleEarth\ngsd:0.1\n{LINE}")
    source = load_split(tmp_path)
    (item,) = source.images[0]["annotations"]
    assert (source.task, source.classes) == ("rotated", ("small-vehicle",))
    assert item["bbox"] == pytest.approx([8, 6, 8, 4, 0])
    assert (item["difficult"], item["record"]) == (1, 3)


@pytest.mark.parametrize("layout", ["{split}/labelTxt", "labelTxt/{split}"])
def test_splits_are_found_inside_and_outside(tmp_path, layout):
    for split in ("train", "val"):
        save_image(tmp_path / "images" / split / f"{split}.png")
        write(tmp_path / layout.format(split=split) / f"{split}.txt", LINE)
    splits = load_splits(tmp_path, images=tmp_path / "images")
    assert [source.num_annotations for source in splits.values()] == [1, 1]


def test_a_wrong_line_is_told(tmp_path):
    save_image(tmp_path / "images" / "a.png")
    write(tmp_path / "labelTxt" / "a.txt", f"{LINE}1 2 3 ship 0\n")
    (issue,) = load_split(tmp_path).issues
    assert issue.where.endswith("a.txt:2")


def test_images_that_are_nowhere_are_told(tmp_path):
    write(tmp_path / "labelTxt" / "a.txt", LINE)
    with pytest.raises(DataError, match="Name their folder"):
        load_split(tmp_path)


@given(BOXES)
def test_corners_and_back_give_the_same_box(box):
    assert rotated_box(corners_of(box)) == pytest.approx(box, abs=1e-6)


@given(BOXES)
def test_the_long_side_first_is_the_same_box(box):
    turned = long_side_first(box)
    assert turned[2] >= turned[3]
    assert -45 <= turned[4] < 135
    theirs = [(x, y) for x, y in zip(*[iter(corners_of(turned))] * 2, strict=True)]
    for corner in zip(*[iter(corners_of(box))] * 2, strict=True):
        assert min(math.dist(corner, other) for other in theirs) < 1e-6


def test_corners_of_no_rectangle_are_enclosed():
    x, y, w, h, _ = rotated_box([0, 0, 10, 0, 8, 6, 0, 6])
    assert (x, y, w * h) == pytest.approx((5, 3, 60), abs=0.01)


def test_the_flag_difficult_may_be_a_word(tmp_path):
    save_image(tmp_path / "images" / "a.png")
    corners = LINE.rpartition(" small")[0]
    lines = f"{corners} large vehicle True\n{corners} large vehicle False\n"
    write(tmp_path / "labelTxt" / "a.txt", lines)
    source = load_split(tmp_path)
    assert source.classes == ("large vehicle",)
    assert ["difficult" in item for item in source.images[0]["annotations"]] == [True, False]


def test_corners_may_have_decimal_commas_or_be_pairs(tmp_path):
    for name, line in {
        "a": "4,5 4 12,5 4 12,5 8 4,5 8 ship 0",
        "b": "4,4 12,4 12,8 4,8 ship 0",
    }.items():
        save_image(tmp_path / "images" / f"{name}.png")
        write(tmp_path / "labelTxt" / f"{name}.txt", f"{line}\n")
    source = load_split(tmp_path)
    found = [image["annotations"][0]["bbox"] for image in source.images]
    assert found == [pytest.approx([8.5, 6, 8, 4, 0]), pytest.approx([8, 6, 8, 4, 0])]
    assert source.classes == ("ship",)
