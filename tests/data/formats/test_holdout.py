"""Shares that are held out."""

from pathlib import Path

import pytest

from d2ext.data.formats import DatasetSplit
from d2ext.data.formats.holdout import Holdout
from d2ext.data.issues import reading_issue
from d2ext.errors import ConfigError, DataError


def source(count):
    images = [{"file_name": f"{n}.png", "image_id": n, "annotations": []} for n in range(count)]
    return DatasetSplit("COCO", Path("x"), "train", "boxes", ("cat",), images)


def names(found):
    return {image["file_name"] for image in found.images}


@pytest.mark.parametrize(("count", "share", "held"), [(10, 0.2, 2), (3, 0.01, 1), (2, 0.99, 1)])
def test_both_parts_together_are_all_images(count, share, held):
    both = [Holdout(part, share, 0).of(source(count)) for part in ("val", "train")]
    assert names(both[0]) | names(both[1]) == names(source(count))
    assert [len(part.images) for part in both] == [held, count - held]


def test_the_share_depends_on_the_seed_and_on_nothing_else():
    first, again = (Holdout("val", 0.3, 7).of(source(100)) for _ in range(2))
    assert names(first) == names(again) != names(Holdout("val", 0.3, 8).of(source(100)))


def test_it_is_written_and_read_as_a_mapping():
    holdout = Holdout("train", 0.25, 3)
    assert holdout.as_mapping() == {"part": "train", "share": 0.25, "seed": 3}
    assert Holdout.from_mapping(holdout.as_mapping()) == holdout


@pytest.mark.parametrize(
    "fields",
    [
        {"share": 0.2},
        {"part": "val", "share": "x", "seed": 1},
        {"part": "some", "share": 0.2, "seed": 1},
        {"part": "val", "share": 2, "seed": 1},
        {"part": "val", "share": 0.2, "seeds": 1},
        {"part": "val", "share": 0.2, "seed": "one"},
    ],
)
def test_other_fields_and_values_are_refused(fields):
    with pytest.raises(ConfigError, match="holdout"):
        Holdout.from_mapping(fields)


def test_one_image_cannot_be_parted():
    with pytest.raises(DataError, match="two are needed"):
        Holdout("val", 0.5, 0).of(source(1))


def test_each_part_has_the_issues_of_its_images(tmp_path):
    images = [{"file_name": f"{n}.png", "image_id": n, "annotations": []} for n in range(10)]
    issues = [reading_issue("record-broken", "x", f"{n}.txt", f"{n}.png") for n in range(12)]
    whole = DatasetSplit("YOLO", tmp_path, "", "boxes", ("cat",), images, issues)
    parts = {part: Holdout(part, 0.3).of(whole) for part in ("train", "val")}
    for part, found in parts.items():
        own = {image["file_name"] for image in found.images}
        others = {"10.png", "11.png"} if part == "train" else set()
        assert {str(issue.image) for issue in found.issues} == own | others
