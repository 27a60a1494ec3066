"""The built-in data set: "shapes_train" and "shapes_val", rendered when first asked for."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from d2ext.data.cache import cached_folder
from d2ext.data.catalog import DatasetSpec, load_dataset, set_metadata
from d2ext.data.shapes_render import CLASSES, VERSION, render
from d2ext.files import cache_folder
from detectron2.data import DatasetCatalog

SPLITS = {"train": 800, "val": 120}  # images
_SEEDS = {"train": 1, "val": 2}


def register_shapes() -> None:
    """Make "shapes_train" and "shapes_val" usable in `DATASETS`. Touches no file."""
    for split in SPLITS:
        name = f"shapes_{split}"
        if name not in DatasetCatalog.list():
            DatasetCatalog.register(name, partial(load_shapes, split))
            annotations, images = map(str, _paths(split))
            set_metadata(
                name,
                json_file=annotations,
                image_root=images,
                evaluator_type="coco",
                thing_classes=list(CLASSES),
            )


def load_shapes(split: str) -> list[dict[str, Any]]:
    """Load Detectron2's dicts of "train" or "val", rendered into the cache the first time.

    Raises:
        OutputError: the cache cannot be written.
    """
    annotations, images = _paths(split)
    cached_folder(annotations.parent, partial(_fill, split))
    return load_dataset(f"shapes_{split}", DatasetSpec(str(annotations), str(images)))


def _paths(split: str) -> tuple[Path, Path]:
    folder = cache_folder() / f"shapes-{VERSION}" / split
    return folder / "annotations.json", folder / "images"


def _fill(split: str, folder: Path) -> None:
    """Write the images and annotations of `split` into the empty `folder`."""
    (folder / "images").mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, SPLITS[split] + 1):
        pixels, objects = render(_SEEDS[split], number)
        height, width, _ = pixels.shape
        name = f"{number:06d}.png"
        Image.fromarray(pixels).save(folder / "images" / name, compress_level=1)
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for item in objects:
            annotations.append({"id": len(annotations) + 1, "image_id": number, **item})
    document = {
        "info": {"description": f"d2ext shapes {VERSION}, {split}"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": n, "name": name} for n, name in enumerate(CLASSES, start=1)],
    }
    (folder / "annotations.json").write_text(json.dumps(document), encoding="utf-8")
