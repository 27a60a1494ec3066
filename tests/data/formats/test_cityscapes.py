"""Cityscapes' folders, recognised and read as panoptic data."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2ext.data.checks.check import check_splits
from d2ext.data.formats import detect_format, load_split
from tests.helpers.planted_dataset import HEIGHT, WIDTH, picture


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    """Two cities; road, a car, a group of persons, and a label that is not evaluated."""
    for number, (split, city) in enumerate((("train", "ulm"), ("train", "bonn"), ("val", "jena"))):
        name = f"{city}_000000_00000{number}"
        ids = np.full((HEIGHT, WIDTH), 7, np.int32)
        ids[:10, :20], ids[20:30, 8:20], ids[40:] = 26000, 24, 4
        image = tmp_path / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png"
        labels = tmp_path / "gtFine" / split / city / f"{name}_gtFine_instanceIds.png"
        for path, content in (
            (image, picture(number)),
            (labels, Image.fromarray(ids.astype("<u2"))),
        ):
            path.parent.mkdir(parents=True)
            content.save(path)
    return tmp_path


@pytest.mark.parametrize("inner", ["", "gtFine"])
def test_the_folders_are_recognised(cityscapes, inner):
    found = detect_format(cityscapes / inner)
    assert (found.format.name, found.splits) == ("Cityscapes", ("train", "val"))


def test_instance_ids_are_segments(cityscapes):
    dataset = load_split(cityscapes, "train")
    assert (dataset.task, len(dataset.images), len(dataset.classes)) == ("panoptic", 2, 19)
    image = dataset.images[1]
    assert image["image_id"] == "ulm_000000_000000"
    assert (image["width"], image["height"]) == (WIDTH, HEIGHT)
    found = {s["id"]: s for s in image["segments_info"]}
    assert sorted(found) == [7, 24, 26000]
    names = {number: dataset.classes[s["category_id"]] for number, s in found.items()}
    assert names == {7: "road", 24: "person", 26000: "car"}
    assert [found[n]["iscrowd"] for n in (7, 24, 26000)] == [0, 1, 0]
    assert [found[n]["isthing"] for n in (7, 24, 26000)] == [False, True, True]
    assert (found[26000]["area"], found[26000]["bbox"]) == (200, [0, 0, 20, 10])


def test_labels_that_are_not_evaluated_are_no_issue(cityscapes):
    report = check_splits({"train": load_split(cityscapes, "train")})
    assert not [issue for issue in report.issues if issue.code.startswith("segment-")]


def test_unreadable_maps_are_issues(cityscapes):
    (broken,) = cityscapes.glob("gtFine/train/ulm/*")
    broken.write_bytes(b"oops")
    dataset = load_split(cityscapes, "train")
    assert len(dataset.images) == 1
    assert [issue.code for issue in dataset.issues] == ["labels-missing"]
