"""Images that stand under nearly the names that annotations have."""

import json
import unicodedata

import pytest

from d2ext.data.checks.check import check_splits
from d2ext.data.formats import load_split, load_splits
from d2ext.data.formats.near_names import NearNames
from tests.data.formats.test_coco import save_image

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("listed", "file"),
    [
        ("a%20b.png", "a b.png"),
        ("https://x.org/d/a.png?token=3", "a.png"),
        ("a.PNG", "a.png"),
        ("a", "a.png"),
        ("a.jpg ", "a.png"),
        (COMPOSED, DECOMPOSED),
    ],
)
def test_an_image_of_a_coco_file_is_found_and_said(tmp_path, listed, file):
    save_image(tmp_path / "images" / file)
    image = {"id": 1, "file_name": listed, "width": 32, "height": 24}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 9, 9], "area": 81, "iscrowd": 0}
    document = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "dog"}]}
    (tmp_path / "train.json").write_text(json.dumps(document), encoding="utf-8")
    dataset = load_split(tmp_path / "train.json")
    assert dataset.images[0]["file_name"] == str(tmp_path / "images" / file)
    assert dataset.notes[0].startswith("1 images are found under names of another case")


def test_a_name_that_may_stand_for_two_files_stands_for_none(tmp_path):
    for name in ("a.png", "a.jpg", "b.png"):
        (tmp_path / name).touch()
    assert NearNames().find(str(tmp_path), "a") is None
    assert NearNames().find(str(tmp_path), "A.JPG") == "a.jpg"
    assert NearNames().find(str(tmp_path), "c.png") is None
    assert NearNames().find(str(tmp_path / "none"), "c.png") is None


def test_yolos_labels_are_found_in_the_other_form_of_unicode(tmp_path):
    save_image(tmp_path / "images" / COMPOSED)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / DECOMPOSED).with_suffix(".txt").write_text("0 .5 .5 .2 .2")
    splits = load_splits(tmp_path)
    assert splits[""].num_annotations == 1
    assert "annotation-orphan" not in {issue.code for issue in check_splits(splits).issues}


def test_a_label_whose_image_is_of_a_kind_that_is_not_read_says_so(tmp_path):
    save_image(tmp_path / "images" / "a.png")
    (tmp_path / "images" / "b.psd").touch()
    (tmp_path / "labels").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "labels" / name).write_text("0 .5 .5 .2 .2")
    report = check_splits(load_splits(tmp_path))
    (issue,) = [issue for issue in report.issues if issue.code == "annotation-orphan"]
    assert issue.detail == "b.psd is of a kind that is not read: save it as PNG"
