"""A made-up data set in nuScenes' layout: seeded boxes on a plane, seen by six cameras.

Anybody can make it again, so it is what the project can be tried on without nuScenes. Objects of a
class share size, colour and speed; sides have shades, so that images tell all that is learned.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from d2ext.data.cache import cached_folder
from d2ext.files import cache_folder
from d2ext.projects.detr3d.data.classes import CLASS_OF_CATEGORY, CLASSES, attribute_of
from d2ext.projects.detr3d.data.geometry import (
    Array,
    quaternion_of,
    rotation_matrices,
    yaw_quaternions,
)
from d2ext.projects.detr3d.data.made_up_render import render_camera
from d2ext.projects.detr3d.data.samples import CAMERAS
from d2ext.projects.detr3d.data.splits import MINI_VALIDATION

VERSION = 1  # of what is rendered
TABLES = "v1.0-mini"
SEED = 7
TRAIN_SCENES, VALIDATION_SCENES = 120, 2
TRAIN_LENGTH, VALIDATION_LENGTH = 4, 40  # samples
PERIOD = 0.5  # seconds between samples
SIZE = (96, 160)  # height and width of the images in pixels
FOCAL = 110.0  # pixels
CAMERA_HEIGHT, CAMERA_RADIUS, LIDAR_HEIGHT = 1.6, 0.5, 1.8  # metres
CAMERA_YAWS = dict(zip(CAMERAS, np.deg2rad([0.0, -60, 60, 180, 120, -120]), strict=True))
NEAREST, FARTHEST = 4.0, 16.0  # metres from the ego vehicle to an object
MARGIN = 0.12  # radians between objects, so that none hides another
# Width, length, height in metres, speed in m/s, colour as BGR.
KINDS: dict[str, tuple[tuple[float, float, float], float, tuple[int, int, int]]] = {
    "car": ((1.9, 4.4, 1.6), 4.0, (220, 60, 40)),
    "truck": ((2.4, 6.0, 2.8), 3.0, (40, 40, 220)),
    "construction_vehicle": ((2.6, 5.0, 3.0), 0.0, (30, 190, 230)),
    "bus": ((2.7, 8.0, 3.2), 3.0, (200, 40, 190)),
    "trailer": ((2.4, 7.0, 3.4), 0.0, (200, 200, 60)),
    "barrier": ((2.4, 0.5, 1.0), 0.0, (250, 250, 250)),
    "motorcycle": ((0.8, 2.1, 1.4), 4.0, (60, 220, 60)),
    "bicycle": ((0.6, 1.7, 1.3), 2.0, (30, 110, 240)),
    "pedestrian": ((0.7, 0.7, 1.8), 1.0, (20, 20, 20)),
    "traffic_cone": ((0.5, 0.5, 1.0), 0.0, (0, 130, 255)),
}
_CATEGORIES = {name: category for category, name in reversed(list(CLASS_OF_CATEGORY.items()))}
_FORWARD = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # camera axes in a frame x forward


def made_up_folder() -> Path:
    """Return the folder of the data set, rendered into the cache the first time.

    Raises:
        OutputError: the cache cannot be written.
    """
    return cached_folder(cache_folder() / f"detr3d-scenes-{VERSION}", write_made_up)


def write_made_up(
    folder: Path, train_scenes: int = TRAIN_SCENES, validation_length: int = VALIDATION_LENGTH
) -> None:
    """Write tables and images into a folder."""
    writer = _Writer(folder)
    names = [f"scene-{2000 + number}" for number in range(train_scenes)]
    for number, name in enumerate((*names, *sorted(MINI_VALIDATION))):
        length = validation_length if name in MINI_VALIDATION else TRAIN_LENGTH
        writer.add_scene(name, length, np.random.default_rng((SEED, number)))
    writer.close()


@dataclass(frozen=True)
class _Object:
    """An object that moves straight ahead. Position and yaw in the global frame at time 0."""

    name: str
    place: Array
    yaw: float

    def at(self, time: float) -> Array:
        """Return (7,) centre, width, length, height, yaw in the global frame."""
        size, speed, _ = KINDS[self.name]
        ahead = np.array([np.cos(self.yaw), np.sin(self.yaw)])
        x, y = self.place + ahead * speed * time
        return np.array([x, y, size[2] / 2, *size, self.yaw])


def _crowd(rng: np.random.Generator) -> list[_Object]:
    """Draw objects around the origin that do not hide each other at first."""
    found: list[_Object] = []
    taken: list[tuple[float, float]] = []  # azimuth and half width in radians
    for name in rng.permutation(CLASSES)[: rng.integers(5, 9)]:
        width, length, _ = KINDS[name][0]
        azimuth, distance = rng.uniform(-np.pi, np.pi), rng.uniform(NEAREST, FARTHEST)
        distance = max(distance, NEAREST + max(width, length) / 2)
        half = np.arctan2(max(width, length) / 2, distance) + MARGIN
        if any(_apart(azimuth, other) < half + reach for other, reach in taken):
            continue
        taken.append((azimuth, half))
        place = distance * np.array([np.cos(azimuth), np.sin(azimuth)])
        found.append(_Object(str(name), place, rng.uniform(-np.pi, np.pi)))
    return found


def _apart(first: float, second: float) -> float:
    return abs((first - second + np.pi) % (2 * np.pi) - np.pi)


class _Writer:
    """Collects the records of the tables and writes the images.

    Args:
        folder: exists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = ("scene", "sample", "sample_data", "calibrated_sensor", "sensor", "ego_pose")
        names += ("sample_annotation", "instance", "category", "attribute", "visibility")
        self.tables: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for name in CLASSES:
            self._add("category", token=f"category-{name}", name=_CATEGORIES[name])
        speeds = ((name, speed) for name in CLASSES for speed in (0.0, KINDS[name][1]))
        for attribute in dict.fromkeys(attribute_of(*each) for each in speeds):
            if attribute:
                self._add("attribute", token=f"attribute-{attribute}", name=attribute)
        self.rig = _rig()
        for channel, (camera2ego, intrinsic) in self.rig.items():
            modality = "camera" if intrinsic else "lidar"
            self._add("sensor", token=f"sensor-{channel}", channel=channel, modality=modality)
            self._add(
                "calibrated_sensor",
                token=f"calibration-{channel}",
                sensor_token=f"sensor-{channel}",
                translation=camera2ego[:3, 3].tolist(),
                rotation=quaternion_of(camera2ego[:3, :3]).tolist(),
                camera_intrinsic=intrinsic,
            )
            (folder / "samples" / channel).mkdir(parents=True)

    def add_scene(self, name: str, length: int, rng: np.random.Generator) -> None:
        """Add a scene; a new crowd appears whenever the last one has been seen for a while."""
        tokens = [f"{name}-{index:03d}" for index in range(length)]
        self._add("scene", token=name, name=name, nbr_samples=length)
        ends = {"first_sample_token": tokens[0], "last_sample_token": tokens[-1]}
        self.tables["scene"][-1] |= ends
        heading = rng.uniform(-np.pi, np.pi)
        for index, token in enumerate(tokens):
            within = index % TRAIN_LENGTH
            if not within:
                objects = _crowd(rng)
            self._add(
                "sample",
                token=token,
                timestamp=self._time(name, index),
                scene_token=name,
                prev=tokens[index - 1] if index else "",
                next=tokens[index + 1] if index + 1 < length else "",
            )
            last = within == TRAIN_LENGTH - 1 or index + 1 == length
            self._annotate(token, tokens, index, objects, within, last)
            self._record(token, index, name, heading, objects, within * PERIOD, rng)

    def close(self) -> None:
        """Write the tables."""
        (self.folder / TABLES).mkdir()
        for name, records in self.tables.items():
            path = self.folder / TABLES / f"{name}.json"
            path.write_text(json.dumps(records), encoding="utf-8")

    def _add(self, table: str, **record: Any) -> None:
        self.tables[table].append(record)

    @staticmethod
    def _time(scene: str, index: int) -> int:
        """Return the time of a sample in microseconds; scenes follow each other."""
        return int(1e6 * (int(scene[-4:]) * 1000 + index * PERIOD))

    def _annotate(
        self,
        token: str,
        tokens: list[str],
        index: int,
        objects: list[_Object],
        within: int,
        last: bool,
    ) -> None:
        for number, each in enumerate(objects):
            box, instance = each.at(within * PERIOD), f"{tokens[index - within]}-{number}"
            if not within:
                category = f"category-{each.name}"
                self._add("instance", token=instance, category_token=category)
            attribute = attribute_of(each.name, KINDS[each.name][1])
            self._add(
                "sample_annotation",
                token=f"{token}-{number}",
                sample_token=token,
                instance_token=instance,
                translation=box[:3].tolist(),
                size=box[3:6].tolist(),
                rotation=yaw_quaternions(box[6]).tolist(),
                attribute_tokens=[f"attribute-{attribute}"] if attribute else [],
                prev=f"{tokens[index - 1]}-{number}" if within else "",
                next="" if last else f"{tokens[index + 1]}-{number}",
                num_lidar_pts=10,
                num_radar_pts=0,
                visibility_token="",
            )

    def _record(
        self,
        token: str,
        index: int,
        scene: str,
        heading: float,
        objects: list[_Object],
        time: float,
        rng: np.random.Generator,
    ) -> None:
        """Write the images of a sample, its sample_data and its ego pose."""
        pose = f"pose-{token}"
        turn = yaw_quaternions(heading).tolist()
        self._add("ego_pose", token=pose, translation=[0.0, 0.0, 0.0], rotation=turn)
        boxes = np.array([each.at(time) for each in objects]).reshape(-1, 7)
        boxes[:, :3] = boxes[:, :3] @ rotation_matrices(turn)
        boxes[:, 6] -= heading
        colours = [KINDS[each.name][2] for each in objects]
        for channel, (camera2ego, intrinsic) in self.rig.items():
            name = f"samples/{channel}/{token}.{'png' if intrinsic else 'pcd.bin'}"
            if intrinsic:
                seen = camera2ego, np.array(intrinsic), SIZE, boxes, colours, rng
                cv2.imwrite(str(self.folder / name), render_camera(*seen))
            self._add(
                "sample_data",
                token=f"{channel}-{token}",
                sample_token=token,
                ego_pose_token=pose,
                calibrated_sensor_token=f"calibration-{channel}",
                timestamp=self._time(scene, index),
                filename=name,
                is_key_frame=True,
                height=SIZE[0] if intrinsic else 0,
                width=SIZE[1] if intrinsic else 0,
                prev="",
                next="",
            )


def _rig() -> dict[str, tuple[Array, list[list[float]]]]:
    """Return the pose in the ego frame (4 x 4) and the intrinsic of each sensor by channel."""
    height, width = SIZE
    intrinsic = [[FOCAL, 0.0, width / 2], [0.0, FOCAL, height / 2], [0.0, 0.0, 1.0]]
    found: dict[str, tuple[Array, list[list[float]]]] = {}
    for channel, yaw in CAMERA_YAWS.items():
        pose = np.eye(4)
        pose[:3, :3] = rotation_matrices(yaw_quaternions(yaw)) @ _FORWARD
        ahead = [CAMERA_RADIUS * np.cos(yaw), CAMERA_RADIUS * np.sin(yaw)]
        pose[:3, 3] = [*ahead, CAMERA_HEIGHT]
        found[channel] = pose, intrinsic
    lidar = np.eye(4)
    lidar[:3, :3] = rotation_matrices(yaw_quaternions(-np.pi / 2))
    lidar[2, 3] = LIDAR_HEIGHT
    found["LIDAR_TOP"] = lidar, []
    return found
