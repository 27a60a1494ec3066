"""Every fault of nuScenes' data is found and named."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

import d2ext
from d2ext.cli.check_data import main
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


POSE, SENSOR, BOX = "ego_pose", "calibrated_sensor", "sample_annotation"
BROKEN = {
    "rotation of three numbers": (POSE, {"rotation": [1, 0, 0]}),
    "rotation of zero": (POSE, {"rotation": [0, 0, 0, 0]}),
    "rotation that is not finite": (SENSOR, {"rotation": [float("nan"), 0, 0, 0]}),
    "no translation": (POSE, {"translation": None}),
    "no intrinsic": (SENSOR, {"camera_intrinsic": []}),
    "size that is not finite": (BOX, {"size": [float("inf"), 1, 1]}),
    "no instance": (BOX, {"instance_token": "nowhere"}),
    "no sample": (BOX, {"sample_token": "nowhere"}),
    "no attribute": (BOX, {"attribute_tokens": ["nowhere"]}),
    "points that are text": (BOX, {"num_lidar_pts": "3"}),
    "no category": ("instance", {"category_token": "nowhere"}),
    "no scene": ("sample", {"scene_token": "nowhere"}),
    "no pose": ("sample_data", {"ego_pose_token": "nowhere"}),
    "no sensor": ("sample_data", {"calibrated_sensor_token": "nowhere"}),
    "file that is no text": ("sample_data", {"filename": 7}),
}


def used(folder, table):
    """The position of a record that a key frame or box uses."""
    records = json.loads((folder / TABLES / f"{table}.json").read_text())
    frames = json.loads((folder / TABLES / "sample_data.json").read_text())
    frame = next(f for f in frames if f["is_key_frame"] and "CAM_FRONT/" in f["filename"])
    wanted = {POSE: frame["ego_pose_token"], SENSOR: frame["calibrated_sensor_token"]}
    wanted["sample_data"] = frame["token"]
    tokens = [record["token"] for record in records]
    return tokens.index(wanted[table]) if table in wanted else 0


@pytest.mark.parametrize("what", BROKEN)
def test_a_record_that_cannot_be_used_is_named_and_left_out(what, folder):
    table, change = BROKEN[what]
    number = used(folder, table)
    edit(folder, table, lambda records: records[number].update(change))
    token = json.loads((folder / TABLES / f"{table}.json").read_text())[number]["token"]
    named = [i for i in issues(folder)[1] if i.where.endswith(f"{table}.json")]
    code = "nuscenes-calibration" if table in (POSE, SENSOR) else "nuscenes-record"
    first = next(issue for issue in named if issue.code == code)
    assert first.detail.startswith(f"{token}: ")
    assert next(iter(change)) in first.detail or "attribute" in first.detail


def test_a_sample_without_a_key_frame_of_a_camera_is_left_out(folder):
    number = used(folder, "sample_data")
    edit(folder, "sample_data", lambda records: records.pop(number))
    before = sum(len(split.images) for split in load_splits(FOLDER).values())
    assert sum(len(split.images) for split in load_splits(folder).values()) == before - 1
    named = next(i for i in issues(folder)[1] if i.code == "nuscenes-camera-missing")
    assert named.detail == "no key frame of CAM_FRONT"


def test_tables_without_a_usable_sample_are_no_crash(folder):
    edit(folder, "sensor", lambda records: records.clear())
    samples = sum(len(split.images) for split in load_splits(FOLDER).values())
    assert issues(folder)[0]["nuscenes-camera-missing"] == samples


def test_matrices_of_samples_that_are_no_rotations_are_found():
    splits = load_splits(FOLDER)
    item = splits["val"].images[0]
    item["sensor2lidar"][2, :3, :3] *= 1.1
    item["sensor2lidar"][4, 0, :3] *= -1
    found = [i for i in check_splits(splits).issues if i.code == "nuscenes-calibration"]
    assert [i.detail for i in found] == [f"CAM_FRONT_LEFT, CAM_BACK_LEFT of {item['image_id']}"]


def test_the_command_checks_a_folder_without_a_config(folder, capsys):
    edit(folder, *FAULTS["nuscenes-box-size"])
    assert main([str(folder)]) == 1
    assert "error nuscenes-box-size, 1: boxes have no size" in capsys.readouterr().out


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
