"""Files of detections that other hands have changed."""

import json
import os
from pathlib import Path

import pytest

from d2ext.data.detection_files import read_detections
from d2ext.errors import OutputError
from d2ext.files import read_json

SIZES = {1: (24, 32)}
GOOD = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4.5], "score": 0.5}
MASK = {"size": [24, 32], "counts": "0`1`f0"}


def written(folder: Path, content: object) -> Path:
    path = folder / "coco_instances_results.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_valid_detections_are_returned_as_they_are(tmp_path):
    for found in ([], [GOOD], [GOOD | {"segmentation": MASK}, GOOD | {"bbox": [1, 2, 3, 4, 5]}]):
        assert read_detections(written(tmp_path, found), SIZES) == found
        assert read_detections(written(tmp_path, found)) == found


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image_id": 2}, "entry 1: the data set has no image 2"),
        ({"image_id": []}, "no image"),
        ({"category_id": "cat"}, "the category 'cat'"),
        ({"score": None}, "a score"),
        ({"bbox": [1, 2, 3]}, "four or five numbers"),
        ({"bbox": [1, 2, 3, float("nan")]}, "four or five numbers"),
        ({"bbox": [1, 2, 3, 10**400]}, "four or five numbers"),
        ({"segmentation": [[1, 1, 2, 2, 3, 3]]}, "a mask that is no run lengths"),
        ({"segmentation": MASK | {"size": [0, 0]}}, "a mask of 0 x 0 pixels"),
        ({"segmentation": MASK | {"size": [1 << 20, 1 << 20]}}, "a mask of"),
        ({"segmentation": MASK | {"counts": "01g0"}}, "broken run lengths"),
        ({"segmentation": MASK | {"counts": [1]}}, "broken run lengths"),
        ({"segmentation": {"counts": "PH0"}}, "a mask that is no run lengths"),
    ],
)
def test_an_entry_that_no_evaluation_writes_is_named(tmp_path, change, reason):
    path = written(tmp_path, [GOOD, GOOD | change])
    with pytest.raises(OutputError, match=f"{path}: cannot be used .*{reason}.* Evaluate"):
        read_detections(path, SIZES)


@pytest.mark.parametrize("content", ["", "[", "[" * 100_000, "9" * 5000, '{"a": 1}', "3"])
def test_a_file_that_is_no_list_of_detections_is_named(tmp_path, content):
    with pytest.raises(OutputError, match="cannot be used"):
        read_detections(written(tmp_path, content))


def test_only_regular_files_of_text_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("pipe", "binary", "missing", ""):
        with pytest.raises(OutputError, match="cannot be used"):
            read_json(tmp_path / name)
