"""Dots: text files `train.dots` and `val.dots`, a line `image x y radius class` per object."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from d2ext.data.formats import DatasetSplit, register_format
from d2ext.data.issues import Issue
from detectron2.structures import BoxMode

NAME = "dots"


@dataclass(frozen=True)
class DotsFile:
    """The file of one split; its images lie beside it.

    Args:
        path: a `.dots` file.
        split: "train", "val", or "" for a file that was named itself.
    """

    path: Path
    split: str


def find(path: Path, images: Path | None) -> Mapping[str, DotsFile]:
    """Find the splits at a path; {} if the path holds no dots."""
    if path.suffix == ".dots":
        return {"": DotsFile(path, "")}
    files = {split: path / f"{split}.dots" for split in ("train", "val")}
    return {split: DotsFile(file, split) for split, file in files.items() if file.is_file()}


def load(part: DotsFile) -> DatasetSplit:
    """Read a split into Detectron2's dicts; lines that cannot be read become issues."""
    lines = part.path.read_text(encoding="utf-8").splitlines()
    rows = [(number, line.split()) for number, line in enumerate(lines, start=1) if line.strip()]
    issues = [
        Issue("record-broken", f"{part.path}:{number}", " ".join(row))
        for number, row in rows
        if len(row) != 5
    ]
    rows = [(number, row) for number, row in rows if len(row) == 5]
    classes = tuple(sorted({row[4] for _, row in rows}))
    images: dict[str, dict] = {}
    for number, (name, x, y, radius, label) in rows:
        image = images.setdefault(name, _image(part, name, len(images) + 1))
        left, top, side = float(x) - float(radius), float(y) - float(radius), 2 * float(radius)
        image["annotations"].append(
            {
                "bbox": [left, top, side, side],
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": classes.index(label),
                "iscrowd": 0,
                "record": number,
            }
        )
    return DatasetSplit(
        NAME,
        part.path,
        part.split,
        "boxes",
        classes,
        list(images.values()),
        issues=issues,
        metadata={"evaluator_type": "dots"},  # chooses the evaluator
    )


def _image(part: DotsFile, name: str, image_id: int) -> dict:
    path = part.path.with_name(name)
    with Image.open(path) as file:
        width, height = file.size
    return {
        "file_name": str(path),
        "image_id": image_id,
        "width": width,
        "height": height,
        "annotated_in": str(part.path),
        "annotations": [],
    }


register_format(NAME, find, load)
