"""Checks and kinds of issues that a project adds for its own kind of data."""

from pathlib import Path

import pytest

from d2ext.data.checks import check as check_module
from d2ext.data.checks.check import check_splits, register_check
from d2ext.data.checks.context import CheckContext
from d2ext.data.checks.kinds import KINDS, Kind, register_kind
from d2ext.data.formats import DatasetSplit
from tests.helpers.planted_dataset import picture

KIND = Kind("space-flat", "error", "boxes in space have no volume", "remove them")


@pytest.fixture(autouse=True)
def _own_registries(monkeypatch):
    """Forgets what a test registers."""
    kinds = dict(KINDS)
    monkeypatch.setattr(check_module, "_CHECKS", list(check_module._CHECKS))
    yield
    KINDS.clear()
    KINDS.update(kinds)


def boxes_in_space(folder: Path, sizes: list[list[float]]) -> DatasetSplit:
    """An image per box; objects have a box in space, and no box in the image."""
    images = []
    for number, size in enumerate(sizes):
        file = folder / f"{number}.jpg"
        picture(number).save(file)
        box = {"bbox_3d": [1.0, 2.0, 3.0, *size, 0.1], "category_id": number % 2, "iscrowd": 0}
        images.append(
            {
                "file_name": str(file),
                "image_id": number,
                "width": 64,
                "height": 48,
                "annotated_in": "scene.json",
                "annotations": [{**box, "record": number}, {**box, "record": number + 100}],
            }
        )
    return DatasetSplit("scenes", folder, "train", "boxes", ("car", "bus"), images)


def check_volumes(context: CheckContext) -> None:
    for number, item in enumerate(context.objects):
        if "bbox_3d" in item and min(item["bbox_3d"][3:6]) <= 0:
            context.add_object("space-flat", number, "no volume")


def test_objects_without_a_box_in_the_image_are_no_issue(tmp_path):
    split = boxes_in_space(tmp_path, [[4, 2, 1.5]] * 4)
    assert check_splits({"train": split, "val": split}).counts()["error"] == 4  # the same images
    assert check_splits({"train": split}).issues == []


def test_objects_with_and_without_a_box_are_told_apart(tmp_path):
    split = boxes_in_space(tmp_path, [[4, 2, 1.5]] * 4)
    split.images[1]["annotations"][0]["bbox"] = [3, 2, 0, 9]
    split.images[2]["annotations"][1]["bbox"] = [3, 2, 20, 9]
    (issue,) = check_splits({"train": split}).issues
    assert (issue.code, issue.object_index, issue.box) == ("box-empty", 2, (3, 2, 3, 11))


def test_a_registered_check_runs_on_every_split(tmp_path):
    register_kind(KIND)
    assert register_check(check_volumes) is check_volumes
    register_check(check_volumes)
    report = check_splits({"train": boxes_in_space(tmp_path, [[4, 2, 1.5], [4, 0, 1.5]])})
    assert [issue.where for issue in report.issues] == [
        "scene.json, annotation 1",
        "scene.json, annotation 101",
    ]
    assert report.issues[0].box is None
    assert "error space-flat, 2: boxes in space have no volume; remove them." in report.text()
    assert report.as_json()["counts"]["error"] == 2


def test_an_issue_of_no_registered_kind_is_an_error_of_its_check(tmp_path):
    register_check(check_volumes)
    report = check_splits({"train": boxes_in_space(tmp_path, [[4, 0, 1.5]])})
    with pytest.raises(ValueError, match="space-flat: no kind of issue has this code"):
        report.text()
