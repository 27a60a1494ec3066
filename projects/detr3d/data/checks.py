"""Checks of nuScenes' data: camera files, calibration, boxes, categories and prev/next chains."""

import os
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from d2ext.data.checks.check import register_check
from d2ext.data.checks.context import CheckContext
from d2ext.data.checks.kinds import Kind, register_kind
from d2ext.projects.detr3d.data.classes import CLASS_RANGE, CLASSES, OTHER_CATEGORIES
from d2ext.projects.detr3d.data.formats import FORMAT, read_tables
from d2ext.projects.detr3d.data.geometry import Array
from d2ext.projects.detr3d.data.records import BROKEN, CALIBRATION
from d2ext.projects.detr3d.data.samples import CAMERAS
from d2ext.projects.detr3d.data.tables import CAMERA_MISSING, Tables

KINDS = (
    Kind(
        CAMERA_MISSING,
        "error",
        "images or key frames of cameras or the lidar are not there",
        "unpack all parts of the download, or correct sample_data.json",
    ),
    Kind(
        BROKEN,
        "error",
        "records cannot be used",
        "correct them; they are left out, and so are the samples and boxes that need them",
    ),
    Kind(
        CALIBRATION,
        "error",
        "calibrations and poses are no rotations, or cameras have no focal length",
        "correct the record: rotation is a quaternion w, x, y, z of length 1",
    ),
    Kind(
        "nuscenes-box-size",
        "error",
        "boxes have no size",
        "remove them; training leaves them out",
    ),
    Kind(
        "nuscenes-category",
        "warning",
        "categories are unknown",
        "check their spelling; boxes of unknown categories are not learned",
    ),
    Kind(
        "nuscenes-chain",
        "warning",
        "prev and next do not lead to each other",
        "correct the tokens; velocities follow from these chains",
    ),
    Kind(
        "nuscenes-no-points",
        "note",
        "boxes have no lidar or radar points",
        "nothing: they are neither learned nor evaluated",
    ),
    Kind(
        "nuscenes-range",
        "note",
        "boxes are beyond the range in which their class is evaluated",
        "nothing: they are not evaluated",
    ),
)
TOLERANCE = 1e-3  # of a quaternion's length
_NAMES = {*CLASSES, *OTHER_CATEGORIES}  # of boxes, see `class_names`
_RANGES = np.array([CLASS_RANGE[name] for name in CLASSES])


@register_check
def check_samples(context: CheckContext) -> None:
    """Check the camera files, transforms, categories and boxes of nuScenes' samples."""
    if context.split.format != FORMAT:
        return
    unknown: Counter[str] = Counter()
    for number, item in enumerate(context.images):
        unknown.update(name for name in item["names"] if name not in _NAMES)
        turned = [
            name
            for name, camera2lidar, intrinsic in zip(
                CAMERAS, item["sensor2lidar"], item["cam_intrinsic"], strict=True
            )
            if not (_is_rotation(camera2lidar[:3, :3]) and (np.diag(intrinsic) > 0).all())
        ]
        if turned:
            context.add_image(CALIBRATION, number, f"{', '.join(turned)} of {item['image_id']}")
        missing = [path for path in item["cameras"] if not os.path.isfile(path)]
        if missing:
            context.add_image(CAMERA_MISSING, number, ", ".join(missing))
        known = item["labels"] >= 0
        boxes, points = item["boxes_3d"][known], item["points"][known]
        place = boxes[:, :3] @ item["lidar2ego"][:3, :3].T + item["lidar2ego"][:3, 3]
        far = np.linalg.norm(place[:, :2], axis=1) >= _RANGES[item["labels"][known]]
        counts = {
            "nuscenes-box-size": int((~(boxes[:, 3:6] > 0)).any(axis=1).sum()),
            "nuscenes-no-points": int((points == 0).sum()),
            "nuscenes-range": int(far.sum()),
        }
        for code, count in counts.items():
            if count:
                context.add_image(code, number, f"{count} boxes of sample {item['image_id']}")
    for name, count in sorted(unknown.items()):
        context.add("nuscenes-category", str(context.split.path), f"{name}: {count} boxes")


def _is_rotation(matrix: Array) -> bool:
    near = np.abs(matrix @ matrix.T - np.eye(3)).max() <= TOLERANCE
    return bool(near and np.linalg.det(matrix) > 0)


@register_check
def check_tables(context: CheckContext) -> None:
    """Check quaternions and chains of the tables that a split comes from."""
    if context.split.format != FORMAT or not context.images:
        return
    folder = Path(context.images[0]["annotated_in"])
    if not folder.is_dir():  # an info file
        return
    tables = read_tables(folder)
    tokens = {item["image_id"] for item in context.images}
    for table, problem in chain(_calibrations(tables, tokens), _chains(tables, tokens)):
        code, name = table
        context.add(code, f"{folder / name}.json", problem)


Problem = tuple[tuple[str, str], str]  # code and table, what is wrong


def _calibrations(tables: Tables, tokens: set[str]) -> Iterator[Problem]:
    """Yield the sensors and ego poses whose quaternion has another length than 1."""
    used = [r for token in tokens for r in tables.channels.get(token, {}).values()]
    for table, key in (
        ("calibrated_sensor", "calibrated_sensor_token"),
        ("ego_pose", "ego_pose_token"),
    ):
        for token in dict.fromkeys(record[key] for record in used):
            length = float(np.linalg.norm(tables.tables[table][token]["rotation"]))
            if not abs(length - 1) <= TOLERANCE:
                problem = f"{token}: the length of its rotation is {length:.4g}"
                yield (CALIBRATION, table), problem


def _chains(tables: Tables, tokens: set[str]) -> Iterator[Problem]:
    """Yield samples and annotations whose neighbours do not name them in turn."""
    for table, key in (("sample", "token"), ("sample_annotation", "sample_token")):
        records = tables.tables[table]
        for token, record in records.items():
            if record[key] not in tokens:
                continue
            for side, back in (("prev", "next"), ("next", "prev")):
                other = record[side]
                if other and records.get(other, {}).get(back) != token:
                    found = "does not lead back" if other in records else "does not exist"
                    yield ("nuscenes-chain", table), f"{token}: its {side}, {other}, {found}"


for _kind in KINDS:
    register_kind(_kind)
