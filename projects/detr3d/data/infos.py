"""mmdetection3d's info files, `nuscenes_infos_*.pkl`, of both generations, read without executing.

Before version 1.0 (the one of the published weights) boxes are w, l, h and -yaw - pi / 2; from 1.0
on l, w, h and yaw; both have a list "infos". Since 1.1 files have "data_list" with instances.
"""

import io
import os
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from d2ext.errors import DataError
from d2ext.files import read_regular
from d2ext.projects.detr3d.data.classes import CLASSES
from d2ext.projects.detr3d.data.geometry import (
    Array,
    inverse,
    multiply_quaternions,
    quaternion_of,
    rigid,
    yaw_quaternions,
)
from d2ext.projects.detr3d.data.samples import CAMERAS, Item, calibrated, class_labels

# All that NumPy arrays and numbers are made of; nothing in it runs code of the file.
_SAFE = {
    *(("numpy", name) for name in ("ndarray", "dtype")),
    *(
        (f"numpy.{core}.{module}", name)
        for core in ("core", "_core")
        for module, name in (
            ("multiarray", "scalar"),
            ("multiarray", "_reconstruct"),
            ("numeric", "_frombuffer"),
        )
    ),
    ("_codecs", "encode"),  # of byte strings in old protocols
}
MICROSECONDS = 1e6


class RestrictedUnpickler(pickle.Unpickler):
    """An unpickler of plain values and NumPy arrays; any other name in the file is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _SAFE:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not data")
        return super().find_class(module, name)


def load_infos(path: Path) -> list[Item]:
    """Return the samples of an info file as Detectron2's dicts, by time.

    File names in it are relative to the folder of the data, where the file lies, or to the folder
    that the data were converted in.

    Raises:
        DataError: the file is no pickle of data, or of no known generation.
    """
    content = _unpickle(path)
    try:
        items = _items(path, content)
    except DataError:
        raise
    except Exception as error:  # fields that are missing or of any other type
        raise DataError(
            f"{path}: a sample cannot be read ({type(error).__name__}: {error}). Convert the file "
            "again, or train from the tables."
        ) from error
    return sorted(items, key=lambda item: item["timestamp"])


def _items(path: Path, content: Any) -> list[Item]:
    if isinstance(content, dict) and isinstance(content.get("data_list"), list):
        return [_from_instances(path, info, content) for info in content["data_list"]]
    if isinstance(content, dict) and isinstance(content.get("infos"), list):
        first = swapped_sizes(path, content["infos"])
        return [_from_info(path, info, first) for info in content["infos"]]
    raise DataError(f"{path}: has neither infos nor data_list: no info file of nuScenes")


def swapped_sizes(path: Path, infos: Sequence[Mapping[str, Any]]) -> bool:
    """Tell if boxes are those since mmdetection3d 1.0: length before width.

    Cars, trucks, buses and trailers are longer than wide, whatever the generation.

    Raises:
        DataError: the boxes do not agree, or there are none to tell by.
    """
    long = ("car", "truck", "bus", "trailer")
    sizes = [
        info["gt_boxes"][np.isin(info["gt_names"], long), 3:5]
        for info in infos
        if "gt_boxes" in info and len(info["gt_boxes"])
    ]
    flat = np.concatenate([*sizes, np.zeros((0, 2))])
    if not len(flat):
        if any(len(info.get("gt_boxes", ())) for info in infos):
            raise DataError(
                f"{path}: no car, truck, bus or trailer tells if boxes are w, l, h (mmdetection3d "
                "before 1.0) or l, w, h. Convert the file again, or train from the tables."
            )
        return False
    share = float((flat[:, 0] > flat[:, 1]).mean())
    if 0.1 < share < 0.9:
        raise DataError(
            f"{path}: {share:.0%} of the vehicles are longer in the first than in the second "
            "number: boxes of both generations of mmdetection3d are mixed in it."
        )
    return share > 0.5


def _unpickle(path: Path) -> Any:
    try:
        return RestrictedUnpickler(io.BytesIO(read_regular(path))).load()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except Exception as error:  # damaged pickles raise anything
        raise DataError(f"{path}: no info file of nuScenes: {error}") from error


def _from_info(path: Path, info: Mapping[str, Any], swapped: bool) -> Item:
    cameras = [_entry(path, info["cams"], name) for name in CAMERAS]
    calibration = calibrated(
        np.stack([np.asarray(camera["cam_intrinsic"], dtype=np.float64) for camera in cameras]),
        np.stack([_transform(camera, "sensor2ego") for camera in cameras]),
        np.stack([_transform(camera, "ego2global") for camera in cameras]),
        _transform(info, "lidar2ego"),
        _transform(info, "ego2global"),
    )
    boxes = np.asarray(info.get("gt_boxes", np.zeros((0, 7))), dtype=np.float64).reshape(-1, 7)
    if swapped:
        boxes = np.concatenate((boxes[:, :3], boxes[:, [4, 3, 5]], -boxes[:, 6:] - np.pi / 2), 1)
    velocity = np.asarray(info.get("gt_velocity", np.zeros((len(boxes), 2)))).reshape(-1, 2)
    points = _points(info, len(boxes))
    names = [str(name) for name in info.get("gt_names", ())]
    files = [_file(path, camera["data_path"]) for camera in cameras]
    boxes = np.concatenate((boxes, velocity), axis=1)
    time = info["timestamp"] / MICROSECONDS
    return _item(info["token"], time, files, calibration, boxes, names, points)


def _from_instances(path: Path, info: Mapping[str, Any], content: Mapping[str, Any]) -> Item:
    """Read an entry of "data_list": boxes l, w, h and yaw; matrices instead of quaternions."""
    cameras = [_entry(path, info["images"], name) for name in CAMERAS]
    lidar2ego = np.asarray(info["lidar_points"]["lidar2ego"], dtype=np.float64)
    pose = np.asarray(info["ego2global"], dtype=np.float64)
    lidar2cam = [np.asarray(camera["lidar2cam"], dtype=np.float64) for camera in cameras]
    back = pose @ lidar2ego  # the cameras' own poses are in lidar2cam already
    calibration = calibrated(
        np.stack([np.asarray(camera["cam2img"], dtype=np.float64)[:3, :3] for camera in cameras]),
        np.stack([inverse(each) for each in lidar2cam]),
        np.stack([back for _ in cameras]),
        lidar2ego,
        pose,
    )
    objects = info.get("instances", [])
    known = content.get("metainfo", {}).get("categories", {})
    by_label = {label: name for name, label in known.items()} or dict(enumerate(CLASSES))
    rows = [[*each["bbox_3d"], *each.get("velocity", (np.nan, np.nan))] for each in objects]
    boxes = np.array(rows, dtype=np.float64).reshape(-1, 9)
    turned = -boxes[:, 6:7] - np.pi / 2
    boxes = np.concatenate((boxes[:, :3], boxes[:, [4, 3, 5]], turned, boxes[:, 7:]), axis=1)
    points = [each["num_lidar_pts"] + each.get("num_radar_pts", 0) for each in objects]
    names = [by_label.get(each["bbox_label"], "unknown") for each in objects]
    folders = [Path("samples", name) for name in CAMERAS]
    files = [
        _file(path, str(folder / Path(camera["img_path"]).name))
        for folder, camera in zip(folders, cameras, strict=True)
    ]
    counts = np.array(points, dtype=np.int64)
    return _item(info["token"], info["timestamp"], files, calibration, boxes, names, counts)


def _item(
    token: str,
    time: float,
    files: list[str],
    calibration: Item,
    boxes: Array,
    names: list[str],
    points: np.ndarray,
) -> Item:
    if not len(boxes) == len(names) == len(points):
        raise ValueError(f"{len(boxes)} boxes, {len(names)} names, {len(points)} numbers of points")
    return {
        "file_name": files[0],
        "image_id": str(token),
        # Info files have no sizes of images; those of nuScenes are all alike.
        "height": 900,
        "width": 1600,
        "timestamp": float(time),
        "cameras": files,
        **calibration,
        "boxes_3d": boxes,
        "names": names,
        "labels": class_labels(names),
        "points": points,
        "truth": _global_truth(boxes, calibration),
    }


def _global_truth(boxes: Array, calibration: Item) -> Item:
    """Return what the metric compares with; info files have no attributes."""
    turn = calibration["ego2global"] @ calibration["lidar2ego"]
    lidar = quaternion_of(turn[:3, :3])
    motion = np.concatenate((boxes[:, 7:9], np.zeros((len(boxes), 1))), axis=1) @ turn[:3, :3].T
    return {
        "translation": boxes[:, :3] @ turn[:3, :3].T + turn[:3, 3],
        "size": boxes[:, 3:6],
        "rotation": multiply_quaternions(lidar, yaw_quaternions(-boxes[:, 6] - np.pi / 2)),
        "velocity": motion[:, :2],
        "attribute": [""] * len(boxes),
    }


def _points(info: Mapping[str, Any], count: int) -> np.ndarray:
    if "num_lidar_pts" in info:
        lidar, radar = info["num_lidar_pts"], info.get("num_radar_pts", np.zeros(count))
        return (np.asarray(lidar) + np.asarray(radar)).astype(np.int64)
    return np.asarray(info.get("valid_flag", np.ones(count)), dtype=np.int64)


def _transform(entry: Mapping[str, Any], name: str) -> Array:
    return rigid(entry[f"{name}_rotation"], entry[f"{name}_translation"])


def _entry(path: Path, cameras: Mapping[str, Any], name: str) -> Any:
    if name not in cameras:
        raise DataError(f"{path}: a sample has no camera {name}")
    return cameras[name]


def _file(path: Path, name: str) -> str:
    """Return an image's path: as the file says, or from "samples" on in the file's own folder."""
    if os.path.isfile(name):
        return name
    parts = Path(name).parts
    start = parts.index("samples") if "samples" in parts else 0
    return str(path.parent.joinpath(*parts[start:]))
