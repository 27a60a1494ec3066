"""Formats in which the prediction command writes detections, in addition to predictions.json."""

import csv
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, TextIO

from d2ext.data.formats.corners import corners_of
from d2ext.files import replacing
from d2ext.registry import ExtensionRegistry

Entry = Mapping[str, Any]  # of an image in predictions.json

LINES = "predictions.jsonl"


class Writer(ABC):
    """Writes the detections of one image after another.

    Args:
        output: the folder.
        names: of the classes.
    """

    def __init__(self, output: Path, names: Sequence[str]) -> None:
        self.output, self.names = output, names
        output.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def add(self, name: PurePath, entry: Entry) -> None:
        """Add an image.

        Args:
            name: a path below the output folder that belongs to the image alone.
            entry: as predictions.json has it.
        """

    def close(self) -> None:  # noqa: B027 # most writers have nothing to do
        """Complete the output."""


class JSONLinesWriter(Writer):
    """predictions.jsonl: a line per image or frame, on disk as soon as it is predicted."""

    def __init__(self, output: Path, names: Sequence[str]) -> None:
        super().__init__(output, names)
        self.file = open(output / LINES, "w", encoding="utf-8")  # noqa: SIM115

    def add(self, name: PurePath, entry: Entry) -> None:
        self.file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        self.file.flush()

    def close(self) -> None:
        self.file.close()


class CSVWriter(Writer):
    """predictions.csv: a line per upright box."""

    file: TextIO

    def __init__(self, output: Path, names: Sequence[str]) -> None:
        super().__init__(output, names)
        self.file = open(output / "predictions.csv", "w", encoding="utf-8", newline="")  # noqa: SIM115
        self.rows = csv.writer(self.file)
        self.rows.writerow(("image", "xmin", "ymin", "xmax", "ymax", "label", "score"))

    def add(self, name: PurePath, entry: Entry) -> None:
        for found in _boxes(entry):
            self.rows.writerow(
                (entry["file"], *_upright(found["box"]), found["class_name"], found["score"])
            )
        self.file.flush()

    def close(self) -> None:
        self.file.close()


class YOLOWriter(Writer):
    """labels/<image>.txt: class, x, y, width, height as shares of the image, and score.

    A rotated box is its class, four corners and the score. The names are in classes.txt.
    """

    def __init__(self, output: Path, names: Sequence[str]) -> None:
        super().__init__(output, names)
        with replacing(output / "classes.txt") as temporary:
            temporary.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")

    def add(self, name: PurePath, entry: Entry) -> None:
        width, height = entry["width"], entry["height"]
        lines = []
        for found in _boxes(entry):
            box = found["box"]
            place = corners_of(box) if len(box) == 5 else _centred(box)
            shares = (v / (height if n % 2 else width) for n, v in enumerate(place))
            numbers = " ".join(f"{share:.6f}" for share in shares)
            lines.append(f"{found['class_id']} {numbers} {found['score']}\n")
        with replacing(self.output / "labels" / name.with_suffix(".txt")) as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")


class COCOWriter(Writer):
    """predictions_coco.json: a COCO data set whose annotations have a "score"."""

    def __init__(self, output: Path, names: Sequence[str]) -> None:
        super().__init__(output, names)
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def add(self, name: PurePath, entry: Entry) -> None:
        number = len(self.images) + 1
        size = {"width": entry["width"], "height": entry["height"]}
        self.images.append({"id": number, "file_name": entry["file"], **size})
        for found in _boxes(entry):
            own = {"id": len(self.annotations) + 1, "image_id": number}
            self.annotations.append({**own, **_as_coco(found)})

    def close(self) -> None:
        used = max((each["category_id"] for each in self.annotations), default=0)
        names = [*self.names, *(f"class {n}" for n in range(len(self.names), used))]
        categories = [{"id": n + 1, "name": name} for n, name in enumerate(names)]
        content = {"images": self.images, "annotations": self.annotations}
        with replacing(self.output / "predictions_coco.json") as temporary:
            text = json.dumps({**content, "categories": categories}, ensure_ascii=False)
            temporary.write_text(text, encoding="utf-8")


_WRITERS: ExtensionRegistry[str, type[Writer]] = ExtensionRegistry("format of predictions")


def register_writer(name: str, writer: type[Writer]) -> None:
    """Register a format that `--format` of tools/demo.py takes.

    Raises:
        ValueError: the name is taken.
    """
    _WRITERS.register(name, writer)


def build_writers(formats: Sequence[str], output: Path, names: Sequence[str]) -> list[Writer]:
    """Build the writer of JSON lines and those of `formats`.

    Raises:
        ConfigError: a format is unknown.
    """
    kinds: list[type[Writer]] = [JSONLinesWriter]
    kinds += [_WRITERS.get(name, "--format") for name in dict.fromkeys(formats)]
    return [kind(output, names) for kind in kinds]


def _boxes(entry: Entry) -> list[dict[str, Any]]:
    return [found for found in entry["detections"] if len(found.get("box", ())) in (4, 5)]


def _upright(box: Sequence[float]) -> Sequence[float]:
    """Return XYXY; of a rotated box the enclosing one."""
    if len(box) == 4:
        return box
    corners = corners_of(box)
    xs, ys = corners[::2], corners[1::2]
    return [round(v, 2) for v in (min(xs), min(ys), max(xs), max(ys))]


def _centred(box: Sequence[float]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = box
    return (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0


def _as_coco(found: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a detection to an annotation, with COCO's key names and ids from 1 on."""
    box = found["box"]
    own = box if len(box) == 5 else [box[0], box[1], box[2] - box[0], box[3] - box[1]]
    converted = {"category_id": found["class_id"] + 1, "bbox": [round(v, 2) for v in own]}
    converted |= {"area": round(own[2] * own[3], 2), "iscrowd": 0, "score": found["score"]}
    if "track_id" in found:
        converted["track_id"] = found["track_id"]
    if "mask" in found:
        converted["segmentation"] = found["mask"]
    if "keypoints" in found:
        # COCO names a pixel by its index; its centre is half a pixel further.
        points = [(x - 0.5, y - 0.5, 2) for x, y, _ in found["keypoints"]]
        converted |= {"keypoints": [v for point in points for v in point]}
        converted["num_keypoints"] = len(points)
    return converted


register_writer("coco", COCOWriter)
register_writer("csv", CSVWriter)
register_writer("yolo", YOLOWriter)
