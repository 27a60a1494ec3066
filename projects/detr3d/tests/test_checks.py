"""Every fault of nuScenes' data is found and named."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

import d2ext
from d2ext.data.checks.check import check_splits
from d2ext.data.formats import detect_format, load_splits
from d2ext.errors import DataError
from d2ext.projects.detr3d.data.classes import CLASSES

FOLDER = Path(d2ext.__file__).parents[1] / "tests/parity/nuscenes_mini/data"
TABLES = "v1.0-mini"


@pytest.fixture
def folder(tmp_path):
    """A copy of the made-up data."""
    return Path(shutil.copytree(FOLDER, tmp_path / "data"))


def edit(folder, table, change):
    path = folder / TABLES / f"{table}.json"
    records = json.loads(path.read_text())
    change(records)
    path.write_text(json.dumps(records))


def issues(folder):
    """What the checks of nuScenes find, by code."""
    report = check_splits(load_splits(folder))
    own = [issue for issue in report.issues if issue.code.startswith("nuscenes-")]
    return Counter(issue.code for issue in own), own


def test_a_folder_is_recognised_with_its_splits(folder):
    found = detect_format(folder)
    assert (found.format.name, found.splits) == ("nuScenes", ("train", "val"))
    validation = found.load("val")
    assert len(validation.images) == 6
    assert validation.classes == CLASSES
    assert validation.num_annotations > 100


def test_sound_tables_have_notes_alone(folder):
    assert set(issues(folder)[0]) <= {"nuscenes-no-points", "nuscenes-range"}


def first_with(records, side):
    return next(record for record in records if record[side])


FAULTS = {
    "nuscenes-calibration": ("calibrated_sensor", lambda r: r[0].update(rotation=[0.9, 0, 0, 0])),
    "nuscenes-category": ("category", lambda r: r[0].update(name="vehicle.spaceship")),
    "nuscenes-chain": ("sample", lambda r: first_with(r, "next").update(next="nowhere")),
    "nuscenes-box-size": ("sample_annotation", lambda r: r[0].update(size=[0, 1, 1])),
}


@pytest.mark.parametrize("code", FAULTS)
def test_a_planted_fault_is_found(code, folder):
    edit(folder, *FAULTS[code])
    assert issues(folder)[0][code] >= 1


def test_a_missing_camera_file_is_named(folder):
    gone = next((folder / "samples/CAM_BACK").iterdir())
    gone.unlink()
    counts, found = issues(folder)
    assert counts["nuscenes-camera-missing"] == 1
    named = next(issue for issue in found if issue.code == "nuscenes-camera-missing")
    assert gone.name in named.detail


def test_a_missing_table_is_named(folder):
    (folder / TABLES / "ego_pose.json").unlink()
    with pytest.raises(DataError, match=r"ego_pose\.json"):
        load_splits(folder)
