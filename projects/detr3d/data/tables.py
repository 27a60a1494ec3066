"""nuScenes' tables: a folder `v1.0-*` of JSON files, joined without the devkit.

Source: Caesar et al., "nuScenes", 2020, arXiv:1903.11027; the schema at https://www.nuscenes.org.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from d2ext.data.issues import Issue
from d2ext.errors import DataError
from d2ext.files import read_regular
from d2ext.projects.detr3d.data.geometry import Array, rigid
from d2ext.projects.detr3d.data.records import Record, drop_broken_records
from d2ext.projects.detr3d.data.samples import (
    CAMERAS,
    Item,
    boxes_in_lidar,
    calibrated,
    class_labels,
    class_names,
)

CAMERA_MISSING = "nuscenes-camera-missing"  # kind of issue
LIDAR = "LIDAR_TOP"
TABLES = (
    *("scene", "sample", "sample_data", "calibrated_sensor", "sensor", "ego_pose"),
    *("sample_annotation", "instance", "category", "attribute"),
)
MAX_SPAN = 1.5  # seconds between two positions that give a velocity
MICROSECONDS = 1e6


@dataclass(frozen=True)
class Tables:
    """The tables of one version, joined.

    Attributes:
        root: the folder that file names are relative to.
        version: name of the folder of tables.
        tables: records by token, by the table's name; in the order of the files.
        channels: of each sample, its key-frame records of `sample_data` by channel.
        annotations: of each sample, its annotations in the order of the table.
        issues: records that were left out, and why.
    """

    root: Path
    version: str
    tables: Mapping[str, Mapping[str, Record]]
    channels: Mapping[str, Mapping[str, Record]]
    annotations: Mapping[str, Sequence[Record]]
    issues: Sequence[Issue] = ()

    @classmethod
    def read(cls, folder: Path) -> "Tables":
        """Read a folder `v1.0-*`.

        Raises:
            DataError: a table is missing or is no list of records.
        """
        tables = {name: _read(folder / f"{name}.json") for name in TABLES}
        issues = drop_broken_records(folder, tables)
        annotations: dict[str, list[Record]] = defaultdict(list)
        for record in tables["sample_annotation"].values():
            annotations[record["sample_token"]].append(record)
        channels = _key_frames(tables)
        return cls(folder.parent, folder.name, tables, channels, annotations, issues)

    def scene_names(self) -> list[str]:
        """Return the names of all scenes."""
        return [scene["name"] for scene in self.tables["scene"].values()]

    def category(self, annotation: Record) -> str:
        """Return the category of an annotation: that of its instance."""
        instance = self.tables["instance"][annotation["instance_token"]]
        return self.tables["category"][instance["category_token"]]["name"]

    def attribute(self, annotation: Record) -> str:
        """Return the name of an annotation's attribute, or ""."""
        tokens = annotation["attribute_tokens"]
        return self.tables["attribute"][tokens[0]]["name"] if tokens else ""

    def velocity(self, annotation: Record) -> Array:
        """Return (2,) m/s in the global frame, from the neighbours in time; NaN if unknown."""
        records, samples = self.tables["sample_annotation"], self.tables["sample"]
        ends = [records.get(annotation[side], annotation) for side in ("prev", "next")]
        times = [samples[end["sample_token"]]["timestamp"] / MICROSECONDS for end in ends]
        inner = sum(end is not annotation for end in ends)
        span = times[1] - times[0]
        if not inner or not 0 < span <= MAX_SPAN * inner:
            return np.full(2, np.nan)
        places = np.array([end["translation"][:2] for end in ends])
        return (places[1] - places[0]) / span

    def items(self, scenes: Sequence[str]) -> list[Item]:
        """Return the complete samples of some scenes as Detectron2's dicts, by time."""
        samples = self._samples(scenes)
        return [self.item(sample) for sample in samples if not self.missing_channels(sample)]

    def incomplete(self, scenes: Sequence[str]) -> list[Issue]:
        """Return an issue per sample of some scenes that lacks a camera or the lidar."""
        where = f"{self.root / self.version}/sample_data.json"
        return [
            Issue(CAMERA_MISSING, where, f"no key frame of {', '.join(gone)}", record=s["token"])
            for s in self._samples(scenes)
            if (gone := self.missing_channels(s))
        ]

    def missing_channels(self, sample: Record) -> list[str]:
        """Return the cameras and the lidar that a sample has no key frame of."""
        channels = self.channels.get(sample["token"], {})
        return [name for name in (*CAMERAS, LIDAR) if name not in channels]

    def _samples(self, scenes: Sequence[str]) -> list[Record]:
        names = set(scenes)
        wanted = {t for t, scene in self.tables["scene"].items() if scene["name"] in names}
        samples = [s for s in self.tables["sample"].values() if s["scene_token"] in wanted]
        return sorted(samples, key=lambda sample: sample["timestamp"])

    def item(self, sample: Record) -> Item:
        """Return a complete sample as a dict; see `d2ext.projects.detr3d.data.samples`."""
        channels = self.channels[sample["token"]]
        cameras = [channels[name] for name in CAMERAS]
        calibration = self._calibration(cameras, channels[LIDAR])
        return {
            "file_name": str(self.root / cameras[0]["filename"]),
            "image_id": sample["token"],
            "height": cameras[0]["height"],
            "width": cameras[0]["width"],
            "scene": self.tables["scene"][sample["scene_token"]]["name"],
            "timestamp": sample["timestamp"] / MICROSECONDS,
            "cameras": [str(self.root / camera["filename"]) for camera in cameras],
            **calibration,
            **self._boxes(sample["token"], calibration["ego2global"] @ calibration["lidar2ego"]),
        }

    def _calibration(self, cameras: Sequence[Record], lidar: Record) -> Item:
        sensors = self.tables["calibrated_sensor"]
        calibration = [sensors[record["calibrated_sensor_token"]] for record in cameras]
        return calibrated(
            np.array([each["camera_intrinsic"] for each in calibration], dtype=np.float64),
            np.stack([_transform(each) for each in calibration]),
            np.stack([self._pose(record) for record in cameras]),
            _transform(sensors[lidar["calibrated_sensor_token"]]),
            self._pose(lidar),
        )

    def _pose(self, record: Record) -> Array:
        return _transform(self.tables["ego_pose"][record["ego_pose_token"]])

    def _boxes(self, token: str, lidar2global: Array) -> Item:
        records = self.annotations.get(token, [])
        categories = [self.category(record) for record in records]
        truth = {
            "translation": _numbers(records, "translation", 3),
            "size": _numbers(records, "size", 3),
            "rotation": _numbers(records, "rotation", 4),
            "velocity": np.array([self.velocity(record) for record in records]).reshape(-1, 2),
        }
        points = [r["num_lidar_pts"] + r["num_radar_pts"] for r in records]
        names = class_names(categories)
        return {
            "boxes_3d": boxes_in_lidar(*truth.values(), lidar2global),
            "names": names,
            "labels": class_labels(names),
            "points": np.array(points, dtype=np.int64),
            "truth": {**truth, "attribute": [self.attribute(record) for record in records]},
        }


def find_tables(root: Path) -> list[Path]:
    """Return the folders of tables in a nuScenes folder, or `root` if it is one itself."""
    places = [root, *sorted(root.glob("v1.0-*"))] if root.is_dir() else []
    return [place for place in places if (place / "sample_annotation.json").is_file()]


def _read(path: Path) -> dict[str, Record]:
    try:
        records = json.loads(read_regular(path))
        if not all(isinstance(record, dict) for record in records):
            raise TypeError("a record is no object")
        if not all(isinstance(record["token"], str) for record in records):
            raise TypeError("a token is no text")
        return {record["token"]: record for record in records}
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}. A nuScenes folder has this table.") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: no list of records with a token ({error})") from error


def _key_frames(tables: Mapping[str, Mapping[str, Record]]) -> dict[str, dict[str, Record]]:
    found: dict[str, dict[str, Record]] = defaultdict(dict)
    for record in tables["sample_data"].values():
        sensor = tables["calibrated_sensor"][record["calibrated_sensor_token"]]["sensor_token"]
        found[record["sample_token"]][tables["sensor"][sensor]["channel"]] = record
    return found


def _transform(record: Record) -> Array:
    return rigid(record["rotation"], record["translation"])


def _numbers(records: Sequence[Record], key: str, width: int) -> Array:
    return np.array([record[key] for record in records], dtype=np.float64).reshape(-1, width)
