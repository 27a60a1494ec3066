import json
from pathlib import Path, PurePath

import pytest
import torch

from d2ext.errors import ConfigError
from d2ext.inference.reading import LoadedImage, same_size_batches
from d2ext.inference.writers import build_writers

FOUND = {"box": [10.0, 20.0, 60.0, 40.0], "score": 0.5, "class_id": 1, "class_name": "dog"}
ENTRY = {"file": "in/a.jpg", "width": 100, "height": 80, "detections": [FOUND]}


def write(folder: Path, *formats: str) -> list:
    writers = build_writers(formats, folder, ["cat", "dog"])
    for writer in writers:
        writer.add(PurePath("sub/a.jpg"), ENTRY)
    return writers


def test_a_line_is_on_disk_before_the_writer_is_closed(tmp_path):
    writers = write(tmp_path)
    assert json.loads((tmp_path / "predictions.jsonl").read_text(encoding="utf-8")) == ENTRY
    writers[0].close()


def test_every_format_holds_the_box(tmp_path):
    for writer in write(tmp_path, "coco", "csv", "yolo"):
        writer.close()
    coco = json.loads((tmp_path / "predictions_coco.json").read_text(encoding="utf-8"))
    (found,) = coco["annotations"]
    assert (found["bbox"], found["category_id"], found["score"]) == ([10, 20, 50, 20], 2, 0.5)
    assert [each["name"] for each in coco["categories"]] == ["cat", "dog"]
    rows = (tmp_path / "predictions.csv").read_text(encoding="utf-8").splitlines()
    assert rows[1] == "in/a.jpg,10.0,20.0,60.0,40.0,dog,0.5"
    label = (tmp_path / "labels" / "sub" / "a.txt").read_text(encoding="utf-8").split()
    assert [float(value) for value in label] == [1, 0.35, 0.375, 0.5, 0.25, 0.5]


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"--format: .*'yaml' is unknown"):
        build_writers(["yaml"], tmp_path, [])


def test_only_images_of_one_size_share_a_batch():
    sizes = [(8, 8), (8, 6), (8, 8), (8, 8), (8, 6)]
    images = [LoadedImage(n, pixels=torch.zeros(3, *size)) for n, size in enumerate(sizes)]
    images.insert(2, LoadedImage(9, error="broken"))
    batches = [[each.number for each in b] for b in same_size_batches(images, lambda pixels: 2)]
    assert batches == [[9], [0, 2], [1, 4], [3]]
