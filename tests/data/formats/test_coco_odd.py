"""COCO files with a value that does not belong there, in every place, one at a time."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from d2ext.data.checks.check import check_splits
from d2ext.data.formats import load_splits
from d2ext.errors import UserError

WHOLE = {
    "images": [{"id": 1, "file_name": "a.png", "height": 24, "width": 32}],
    "categories": [
        {"id": 1, "name": "dog", "supercategory": "animal", "keypoints": ["nose", "tail"]},
        {"id": 2, "name": "cat"},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "bbox": [1, 2, 10, 10],
            "iscrowd": 0,
            "segmentation": [[1, 2, 11, 2, 11, 12]],
            "keypoints": [2, 3, 2, 4, 5, 2],
        },
        {
            "id": 2,
            "image_id": 1,
            "category_id": 2,
            "bbox": [3, 2, 5, 6],
            "iscrowd": 1,
            "segmentation": {"size": [24, 32], "counts": [0, 100, 668]},
        },
    ],
}
MISSING = object()
ODD = [MISSING, None, [], {}, [1], [[]], [["a"]], [None], {"a": 1}, "x", "", True, -1, 1.5]
ODD += [float("nan"), float("inf"), 1e30]


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    if path:
        yield path
    keys = value if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0)
    for key in keys:
        yield from places(value[key], (*path, key))


def planted(place: tuple, odd: Any) -> dict:
    content = copy.deepcopy(WHOLE)
    holder = content
    for key in place[:-1]:
        holder = holder[key]
    if odd is MISSING:
        del holder[place[-1]]
    else:
        holder[place[-1]] = odd
    return content


def outcome(path: Path) -> str:
    """What the check says, or why the file is refused."""
    try:
        return check_splits(load_splits(path)).text(5)
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("place", list(places(WHOLE)), ids=lambda place: ".".join(map(str, place)))
def test_an_odd_value_is_read_checked_or_refused(tmp_path, place):
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(tmp_path / "a.png")
    path = tmp_path / "all.json"
    for odd in ODD:
        path.write_text(json.dumps(planted(place, odd)), encoding="utf-8")
        assert "all.json" in outcome(path)
