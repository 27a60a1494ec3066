"""Overlays of the worst images on the page of a run."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from d2ext.cli.report import main
from d2ext.data.segment_maps import encode_segment_ids
from d2ext.visualization.overlay import overlay_segments
from detectron2.data import DatasetCatalog, MetadataCatalog
from tests.helpers.panoptic_data import segment_ids, write_panoptic
from tests.helpers.planted_dataset import picture


def run_folder(tmp_path, name: str, path):
    """What a training leaves: its config and the folder of an evaluation."""
    results = tmp_path / "output" / "inference" / name
    results.mkdir(parents=True)
    register = json.dumps([{"name": name, "path": str(path)}])
    (tmp_path / "output" / "config.yaml").write_text(
        f"DATASETS:\n  REGISTER: {register}\n  TRAIN: [{name}]\n  TEST: [{name}]\n"
    )
    return results


@pytest.fixture
def name(request):
    name = f"pixel_sections_{request.node.name}"
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def test_panoptic_results_have_a_row_per_class_and_the_worst_images(tmp_path, name):
    results = run_folder(tmp_path, name, write_panoptic(tmp_path / "data"))
    numbers = {"PQ": 12.34, "SQ": 50.0, "RQ": None, "matched": 3, "extra": 2, "missed": 1}
    (results / "worst").mkdir()
    Image.fromarray(encode_segment_ids(segment_ids(1))).save(results / "worst" / "00.png")
    worst = {
        "file_name": str(tmp_path / "data" / "images" / "train_1.jpg"),
        "quality": 0.25,
        "segment_map": "worst/00.png",
        "segments_info": [{"id": 700, "category_id": 0}],
    }
    document = {"classes": [{"name": "<cat>", "isthing": True, **numbers}], "worst": [worst]}
    (results / "panoptic_quality.json").write_text(json.dumps(document))
    main([str(tmp_path / "output")])
    page = (tmp_path / "output" / "report.html").read_text(encoding="utf-8")
    row = "<td>&lt;cat&gt;</td><td>thing</td><td>12.3</td><td>50.0</td><td>-</td><td>3</td>"
    assert row in page
    assert "train_1.jpg: PQ 25.0" in page
    assert len(re.findall("data:image/jpeg", page)) == 1


def test_semantic_results_show_the_images_with_the_fewest_right_pixels_first(tmp_path, name):
    from pycocotools import mask as coco_mask

    data, found = tmp_path / "data", []
    for folder in ("images", "labels"):
        (data / folder).mkdir(parents=True)
    for number in range(2):
        picture(number).save(data / "images" / f"{number}.jpg")
        Image.fromarray(np.zeros((48, 64), np.uint8)).save(data / "labels" / f"{number}.png")
        right = np.zeros((48, 64), np.uint8)
        right[: 12 if number else 36] = 1
        for label, mask in enumerate((right, 1 - right)):
            runs = coco_mask.encode(np.asfortranarray(mask))
            segmentation = {"size": runs["size"], "counts": runs["counts"].decode()}
            file = str(data / "images" / f"{number}.jpg")
            item = {"file_name": file, "category_id": label, "segmentation": segmentation}
            found.append(item)
    (data / "classes.txt").write_text("road\nroof\n")
    results = run_folder(tmp_path, name, data)
    (results / "sem_seg_predictions.json").write_text(json.dumps(found))
    main([str(tmp_path / "output")])
    page = (tmp_path / "output" / "report.html").read_text(encoding="utf-8")
    captions = re.findall(r"(\d)\.jpg: ([\d.]+)% of the pixels right</", page)
    assert captions == [("1", "25.0"), ("0", "75.0")]


def test_an_overlay_tints_known_segments_and_draws_their_edges():
    segments = np.zeros((40, 40), int)
    segments[:, 20:] = 7
    grey = np.full((40, 40, 3), 100, np.uint8)
    shown = overlay_segments(grey, segments, {7: (200, 0, 0)}, side=40)
    assert shown[5, 5].tolist() == [100, 100, 100]
    assert shown[5, 20].tolist() == [255, 255, 255]
    assert shown[5, 30].tolist() == [150, 50, 50]
