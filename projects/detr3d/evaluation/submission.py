"""nuScenes' submission files: detections in the global frame, as JSON.

Source: https://www.nuscenes.org/object-detection, results format.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from d2ext.errors import DataError
from d2ext.files import read_regular, replacing
from d2ext.projects.detr3d.data.classes import ATTRIBUTES, CLASS_RANGE, CLASSES, attribute_of
from d2ext.projects.detr3d.data.geometry import (
    Array,
    multiply_quaternions,
    quaternion_of,
    yaw_quaternions,
)
from d2ext.projects.detr3d.evaluation.boxes import GlobalBoxes

META = {
    "use_camera": True,
    **dict.fromkeys(("use_lidar", "use_radar", "use_map", "use_external"), False),
}
MAX_BOXES = 500  # per sample
_RANGES = np.array([CLASS_RANGE[name] for name in CLASSES])
_LENGTHS = {"translation": 3, "size": 3, "rotation": 4, "velocity": 2}


def to_global(
    sample: int, boxes: Array, scores: Array, labels: np.ndarray, lidar2ego: Array, pose: Array
) -> GlobalBoxes:
    """Convert one sample's detections to the global frame; those out of range are left out.

    Args:
        sample: its number.
        boxes: (n, 9) as in `d2ext.projects.detr3d.data.samples`.
        scores, labels: (n,).
        lidar2ego, pose: 4 x 4, the second from ego to global.
    """
    boxes = np.asarray(boxes, dtype=np.float64)
    in_ego = boxes[:, :3] @ lidar2ego[:3, :3].T + lidar2ego[:3, 3]
    kept = np.linalg.norm(in_ego[:, :2], axis=1) <= _RANGES[labels]
    boxes, in_ego, labels = boxes[kept], in_ego[kept], labels[kept]
    turn = pose[:3, :3] @ lidar2ego[:3, :3]
    both = multiply_quaternions(quaternion_of(pose[:3, :3]), quaternion_of(lidar2ego[:3, :3]))
    motion = np.concatenate((boxes[:, 7:9], np.zeros((len(boxes), 1))), axis=1) @ turn.T
    speeds = np.linalg.norm(motion[:, :2], axis=1)
    names = [
        attribute_of(CLASSES[label], speed) for label, speed in zip(labels, speeds, strict=True)
    ]
    return GlobalBoxes(
        sample=np.full(len(boxes), sample, dtype=np.int64),
        label=np.asarray(labels, dtype=np.int64),
        translation=in_ego @ pose[:3, :3].T + pose[:3, 3],
        size=boxes[:, 3:6],
        rotation=multiply_quaternions(both, yaw_quaternions(-boxes[:, 6] - np.pi / 2)),
        velocity=motion[:, :2],
        attribute=np.array(names, dtype=np.str_),
        score=np.asarray(scores, dtype=np.float64)[kept],
        points=np.full(len(boxes), -1, dtype=np.int64),
    )


def write_submission(path: Path, tokens: list[str], boxes: GlobalBoxes) -> None:
    """Write the boxes of samples, whose numbers are positions in `tokens`, as a submission."""
    results: dict[str, list[dict[str, Any]]] = {token: [] for token in tokens}
    for number in range(len(boxes)):
        token = tokens[boxes.sample[number]]
        results[token].append(_as_json(boxes, number, token))
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({"meta": META, "results": results}), encoding="utf-8")


def read_submission(path: Path, tokens: Collection[str]) -> GlobalBoxes:
    """Read and validate a submission.

    Args:
        tokens: of the split, in the order that numbers the samples.
    Raises:
        DataError: the file breaks a rule of the format; the message names the box.
    """
    try:
        content = json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: no submission: {error}") from error
    results = _check_head(path, content, tokens)
    parts = [
        _parse(number, results[token], f"{path}: results.{token}", token)
        for number, token in enumerate(tokens)
    ]
    return GlobalBoxes.cat(parts)


def _check_head(path: Path, content: Any, tokens: Collection[str]) -> Mapping[str, list]:
    if not isinstance(content, dict) or not isinstance(content.get("results"), dict):
        raise DataError(f"{path}: a submission has the keys meta and results")
    meta = content.get("meta")
    if not isinstance(meta, dict) or not all(isinstance(meta.get(key), bool) for key in META):
        raise DataError(f"{path}: meta must have {', '.join(META)}, true or false")
    missing, extra = set(tokens) - set(content["results"]), set(content["results"]) - set(tokens)
    if missing or extra:
        raise DataError(
            f"{path}: results lack {len(missing)} samples of the split and have {len(extra)} "
            f"others, such as {next(iter(missing or extra))}"
        )
    return content["results"]


def _parse(number: int, boxes: list[Any], where: str, token: str) -> GlobalBoxes:
    if not isinstance(boxes, list) or len(boxes) > MAX_BOXES:
        raise DataError(f"{where}: must be a list of at most {MAX_BOXES} boxes")
    for index, box in enumerate(boxes):
        problem = _problem(box, token)
        if problem:
            raise DataError(f"{where}[{index}]: {problem}")
    numbers = {
        key: np.array([box[key] for box in boxes], dtype=np.float64).reshape(-1, width)
        for key, width in _LENGTHS.items()
    }
    return GlobalBoxes(
        sample=np.full(len(boxes), number, dtype=np.int64),
        label=np.array([CLASSES.index(box["detection_name"]) for box in boxes], dtype=np.int64),
        attribute=np.array([box["attribute_name"] for box in boxes], dtype=np.str_),
        score=np.array([box["detection_score"] for box in boxes], dtype=np.float64),
        points=np.full(len(boxes), -1, dtype=np.int64),
        **numbers,
    )


def _problem(box: Any, token: str) -> str:
    """Return what is wrong with a box of a submission, or ""."""
    if not isinstance(box, dict):
        return "is no object"
    if box.get("sample_token") != token:
        return f"sample_token is {box.get('sample_token')!r}, not {token!r}"
    for key, length in _LENGTHS.items():
        values = box.get(key)
        if not isinstance(values, list) or len(values) != length or not all(map(_finite, values)):
            return f"{key} must be {length} finite numbers, got {values!r}"
    if min(box["size"]) <= 0:
        return f"size must be positive, got {box['size']}"
    if not any(box["rotation"]):
        return f"rotation must not be zero, got {box['rotation']}"
    if box.get("detection_name") not in CLASSES:
        return f"detection_name {box.get('detection_name')!r} is no class"
    if not _finite(box.get("detection_score")):
        return f"detection_score must be a finite number, got {box.get('detection_score')!r}"
    if box.get("attribute_name") not in ("", *ATTRIBUTES):
        return f"attribute_name {box.get('attribute_name')!r} is unknown"
    return ""


def _finite(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and abs(value) < 1e18  # whole numbers may be larger than any float


def _as_json(boxes: GlobalBoxes, number: int, token: str) -> dict[str, Any]:
    return {
        "sample_token": token,
        **{key: getattr(boxes, key)[number].tolist() for key in _LENGTHS},
        "detection_name": CLASSES[boxes.label[number]],
        "detection_score": float(boxes.score[number]),
        "attribute_name": str(boxes.attribute[number]),
    }
