"""A data set in COCO's format to plant issues in."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from d2ext.data.checks.check import check_splits
from d2ext.data.checks.report import Report
from d2ext.data.dataset_paths import load_named_splits

WIDTH, HEIGHT = 64, 48


def picture(seed: int, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Coloured blobs, unlike those of any other seed."""
    blobs = np.random.default_rng(seed).integers(0, 255, (5, 6, 3), np.uint8)
    return Image.fromarray(cv2.resize(blobs, (width, height), interpolation=cv2.INTER_CUBIC))


@dataclass
class PlantedDataset:
    """Training and validation data to spoil; `check` writes and checks them."""

    folder: Path
    train: dict[str, Any] = field(default_factory=dict)
    val: dict[str, Any] = field(default_factory=dict)

    def file(self, number: int, split: str = "train") -> Path:
        """The image of that number, counted from 0."""
        return self.folder / split / self.document(split)["images"][number]["file_name"]

    def document(self, split: str = "train") -> dict[str, Any]:
        return self.train if split == "train" else self.val

    def annotation(self, number: int) -> dict[str, Any]:
        return self.train["annotations"][number]

    def add_image(self, content: Image.Image | bytes, name: str = "", split: str = "train") -> int:
        """Write one more image; its id."""
        images = self.document(split)["images"]
        name = name or f"{split}_{len(images)}.jpg"
        path = self.folder / split / name
        path.parent.mkdir(exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content.save(path, quality=92)
        with Image.open(path) as image:
            width, height = image.size
        number = len(images) + 1
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        return number

    def add_box(
        self, image: int, box: list[float], category: int = 1, split: str = "train", **more: Any
    ) -> dict[str, Any]:
        annotations = self.document(split)["annotations"]
        item = {"id": len(annotations) + 1, "image_id": image, "category_id": category}
        item |= {"bbox": box, "iscrowd": 0, "area": box[2] * box[3], **more}
        annotations.append(item)
        return item

    def write(self) -> None:
        for split in ("train", "val"):
            path = self.folder / f"{split}.json"
            path.write_text(json.dumps(self.document(split)), encoding="utf-8")

    def flags(self, folder: Path | None = None) -> list[str]:
        """What --train and --val are, of this data set or of a repaired copy."""
        if folder is not None:
            return [f"{folder}/{s}.json:{folder}/images/{s}" for s in ("train", "val")]
        return [f"{self.folder}/{s}.json:{self.folder}/{s}" for s in ("train", "val")]

    def check(self) -> Report:
        self.write()
        train, val = self.flags()
        return check_splits(load_named_splits(train, [val]))

    def content(self) -> dict[str, bytes]:
        """Every file of the data set."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return {str(path): path.read_bytes() for path in files}
