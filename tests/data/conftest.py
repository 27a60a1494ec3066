"""A small data set in COCO's format, and names that are free again after a test."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import d2ext.data  # noqa: F401  (registers the built-in sets)
from d2ext.config import get_cfg
from d2ext.data import cleaning
from detectron2.config import CfgNode
from tests.helpers.catalog import free_names


@dataclass
class CocoFiles:
    """A document to spoil, and where it is written to."""

    folder: Path
    document: dict[str, Any] = field(default_factory=dict)

    @property
    def annotations(self) -> Path:
        return self.folder / "train.json"

    @property
    def images(self) -> Path:
        return self.folder / "images"

    def write(self) -> "CocoFiles":
        self.annotations.write_text(json.dumps(self.document), encoding="utf-8")
        return self

    def add_image(self, name: str, width: int = 32, height: int = 24) -> int:
        """Write an image of noise; returns its id."""
        number = len(self.document["images"]) + 1
        path = self.images / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(path)
        image = {"id": number, "file_name": name, "width": width, "height": height}
        self.document["images"].append(image)
        return number

    def add_box(self, image: int, box: list[float], category: int = 1, **more: Any) -> None:
        item = {"id": len(self.document["annotations"]) + 1, "image_id": image, "bbox": box}
        item |= {"category_id": category, "iscrowd": 0, "area": box[2] * box[3], **more}
        self.document["annotations"].append(item)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that no other test has written to."""
    monkeypatch.setenv("D2EXT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def _nothing_dropped_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaning, "_dropped", {})


@pytest.fixture(autouse=True)
def _free_names() -> Iterator[None]:
    with free_names():
        yield


@pytest.fixture
def coco(tmp_path: Path) -> CocoFiles:
    """Three images, the last without objects, two classes, two boxes; written to disk."""
    files = CocoFiles(tmp_path, {"info": {}, "images": [], "annotations": [], "categories": []})
    files.document["categories"] = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    for name in ("a.png", "b.png", "c.png"):
        files.add_image(name)
    files.add_box(1, [1, 2, 10, 12], category=1)
    files.add_box(2, [3, 4, 20, 8], category=2)
    return files.write()


@pytest.fixture
def numbered(tmp_path: Path) -> Callable[[int], CocoFiles]:
    """Makes a set of that many images, landscape and portrait, with a box in each."""

    def make(count: int) -> CocoFiles:
        document = {"info": {}, "images": [], "annotations": []}
        document["categories"] = [{"id": 1, "name": "cat"}]
        files = CocoFiles(tmp_path / "numbered", document)
        for number in range(count):
            size = (20, 16) if number % 3 else (16, 20)
            files.add_box(files.add_image(f"{number}.png", *size), [2, 2, 8, 9])
        return files.write()

    return make


@pytest.fixture
def cfg() -> CfgNode:
    """Defaults, for images of a few pixels, in this process."""
    cfg = get_cfg()
    cfg.SEED = 5
    cfg.MODEL.DEVICE = "cpu"
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    cfg.INPUT.MIN_SIZE_TRAIN = (16, 20, 24)
    cfg.INPUT.CROP.ENABLED = True
    cfg.SOLVER.IMS_PER_BATCH = 2
    return cfg
