"""Records of nuScenes' tables that cannot be used: each is left out, with the reason."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from d2ext.data.issues import Issue
from d2ext.projects.detr3d.data.samples import CAMERAS

Record = dict[str, Any]
Records = dict[str, dict[str, Record]]  # by table and token

BROKEN, CALIBRATION = "nuscenes-record", "nuscenes-calibration"  # kinds of issues
_FAR = 1e18  # whole numbers may be larger than any float
_POSE = {"translation": 3, "rotation": 4}
# Fields by table that hold so many finite numbers; a rotation is a quaternion and not zero.
_NUMBERS: Mapping[str, Mapping[str, int]] = {
    "calibrated_sensor": _POSE,
    "ego_pose": _POSE,
    "sample_annotation": {**_POSE, "size": 3},
}
_TYPES: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    **{name: {"name": str} for name in ("scene", "category", "attribute")},
    "sensor": {"channel": str},
    "sample": {"timestamp": (int, float), "prev": str, "next": str},
    "sample_data": {"filename": str, "height": int, "width": int},
    "sample_annotation": {
        **{"num_lidar_pts": int, "num_radar_pts": int, "attribute_tokens": list},
        **{"prev": str, "next": str},
    },
}
# Fields by table that name a record of another table. Tables follow those that they refer to.
_REFERENCES: Mapping[str, Mapping[str, str]] = {
    **{name: {} for name in ("scene", "category", "attribute", "sensor", "ego_pose")},
    "calibrated_sensor": {"sensor_token": "sensor"},
    "sample": {"scene_token": "scene"},
    "sample_data": {
        **{"sample_token": "sample", "calibrated_sensor_token": "calibrated_sensor"},
        "ego_pose_token": "ego_pose",
    },
    "instance": {"category_token": "category"},
    "sample_annotation": {"sample_token": "sample", "instance_token": "instance"},
}


def drop_broken_records(folder: Path, tables: Records) -> list[Issue]:
    """Remove records that cannot be used, and those that refer to them, from `tables`.

    Only key frames and their ego poses are looked at and kept: nothing else is read.
    """
    frames = tables["sample_data"]
    tables["sample_data"] = {
        t: record for t, record in frames.items() if record.get("is_key_frame")
    }
    used = {str(record.get("ego_pose_token")) for record in tables["sample_data"].values()}
    tables["ego_pose"] = {t: record for t, record in tables["ego_pose"].items() if t in used}
    issues = []
    for name in _REFERENCES:
        code = CALIBRATION if name in ("calibrated_sensor", "ego_pose") else BROKEN
        for token, record in list(tables[name].items()):
            problem = next(_problems(name, record, tables), None)
            if problem is not None:
                del tables[name][token]
                where = f"{folder / name}.json"
                issues.append(Issue(code, where, f"{token}: {problem}", record=token))
    return issues


def _problems(table: str, record: Record, tables: Records) -> Iterator[str]:
    for key, width in _NUMBERS.get(table, {}).items():
        if not _are_numbers(record.get(key), width):
            yield f"{key} is {record.get(key)!r}, not {width} finite numbers"
    if "rotation" in _NUMBERS.get(table, {}) and not any(record["rotation"]):
        yield "rotation is zero"
    for key, kind in _TYPES.get(table, {}).items():
        value = record.get(key)
        if not isinstance(value, kind) or (isinstance(value, int | float) and not _is_near(value)):
            yield f"{key} is {value!r}"
    for key, other in _REFERENCES[table].items():
        if not _is_known(record.get(key), tables[other]):
            yield f"its {key}, {record.get(key)!r}, is not in {other}.json or cannot be used"
    if table == "calibrated_sensor":
        yield from _camera_problems(record, tables["sensor"][record["sensor_token"]]["channel"])
    if table == "sample_annotation":
        for token in record["attribute_tokens"][:1]:
            if not _is_known(token, tables["attribute"]):
                yield f"its attribute, {token!r}, is not in attribute.json"


def _camera_problems(record: Record, channel: str) -> Iterator[str]:
    rows = record.get("camera_intrinsic")
    is_matrix = isinstance(rows, Sequence) and len(rows) == 3
    if channel in CAMERAS and not (is_matrix and all(_are_numbers(row, 3) for row in rows or ())):
        yield "camera_intrinsic is no 3 x 3 matrix"


def _are_numbers(values: Any, count: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(isinstance(value, int | float) and _is_near(value) for value in values)
    )


def _is_near(value: float) -> bool:
    return abs(value) < _FAR  # not for NaN


def _is_known(token: Any, records: Mapping[str, Record]) -> bool:
    return isinstance(token, str) and token in records
