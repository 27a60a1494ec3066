"""A made-up panoptic data set in COCO's format: two things and two kinds of stuff."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from d2ext.data.segment_maps import encode_segment_ids
from tests.helpers.planted_dataset import picture

CATEGORIES = [
    {"id": 3, "name": "sky", "isthing": 0},
    {"id": 4, "name": "cat", "isthing": 1},
    {"id": 5, "name": "grass", "isthing": 0},
    {"id": 6, "name": "dog", "isthing": 1},
]
HEIGHT, WIDTH = 48, 64


def segment_ids(number: int) -> np.ndarray:
    """(48, 64) ids: sky 700, grass 70000, cat 1 in the sky, dogs 2 and 3, and a void corner."""
    ids = np.full((HEIGHT, WIDTH), 700, np.int32)
    ids[24:] = 70000
    ids[4:16, 8 + number : 24 + number] = 1
    ids[20:30, 4:14] = 2
    ids[32:44, 30:50] = 3
    ids[:4, 60:] = 0
    return ids


def segments_of(ids: np.ndarray) -> list[dict[str, Any]]:
    """COCO's "segments_info" with true areas and boxes."""
    categories = {700: 3, 70000: 5, 1: 4, 2: 6, 3: 6}
    found = []
    for number, category in categories.items():
        ys, xs = np.nonzero(ids == number)
        if len(ys):
            x, y = int(xs.min()), int(ys.min())
            box = [x, y, int(xs.max()) + 1 - x, int(ys.max()) + 1 - y]
            segment = {"id": number, "category_id": category, "iscrowd": 0}
            found.append({**segment, "area": len(ys), "bbox": box})
    return found


def write_panoptic(folder: Path, count: int = 3, split: str = "train") -> Path:
    """Write panoptic_SPLIT.json, segment maps beside it and images in images/; the JSON's path."""
    maps, images = folder / f"panoptic_{split}", folder / "images"
    maps.mkdir(parents=True)
    images.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {"info": {}, "categories": CATEGORIES}
    document |= {"images": [], "annotations": []}
    for number in range(count):
        name, ids = f"{split}_{number}", segment_ids(number)
        picture(number).save(images / f"{name}.jpg", quality=92)
        Image.fromarray(encode_segment_ids(ids)).save(maps / f"{name}.png")
        document["images"].append(
            {"id": number + 1, "file_name": f"{name}.jpg", "height": HEIGHT, "width": WIDTH}
        )
        document["annotations"].append(
            {
                "image_id": number + 1,
                "file_name": f"{name}.png",
                "segments_info": segments_of(ids),
            }
        )
    path = folder / f"panoptic_{split}.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path
