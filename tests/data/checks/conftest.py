"""A data set without issues, and training's way of reading one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from d2ext.config import get_cfg
from d2ext.data.dataset_paths import register_specs
from d2ext.data.mappers.default import build_train_mapper
from detectron2.data import DatasetCatalog
from tests.helpers.planted_dataset import PlantedDataset, picture


@pytest.fixture
def planted(tmp_path: Path) -> PlantedDataset:
    """Six images to learn from and three to evaluate on, two boxes of two classes in each."""
    (tmp_path / "data").mkdir()
    made = PlantedDataset(tmp_path / "data")
    for split, count, seed in (("train", 6, 0), ("val", 3, 100)):
        categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
        document = {"info": {}, "images": [], "annotations": [], "categories": categories}
        setattr(made, split, document)
        for number in range(count):
            image = made.add_image(picture(seed + number), split=split)
            made.add_box(image, [4 + number, 5, 20, 18], 1, split)
            made.add_box(image, [32, 12 + number, 24, 20], 2, split)
    return made


@pytest.fixture
def learn() -> Callable[..., list[dict[str, Any]]]:
    """Loads a data set as training does and puts every image through the mapper."""

    def load(path: str, images: str = "", split: str = "", name: str = "planted") -> list[dict]:
        register_specs([{"name": name, "path": path, "images": images, "split": split}])
        dicts = DatasetCatalog.get(name)
        cfg = get_cfg()
        cfg.INPUT.MIN_SIZE_TRAIN = (48,)
        objects = [item for one in dicts for item in one.get("annotations", ())]
        cfg.MODEL.MASK_ON = all("segmentation" in item for item in objects)
        if any(isinstance(item.get("segmentation"), dict) for item in objects):
            cfg.INPUT.MASK_FORMAT = "bitmask"
        mapper = build_train_mapper(cfg)
        for item in dicts:
            mapper(item)
        return dicts

    return load
