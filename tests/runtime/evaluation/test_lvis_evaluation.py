import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from d2ext._detectron2 import provider
from detectron2.data import MetadataCatalog
from detectron2.evaluation import LVISEvaluator
from detectron2.structures import Boxes, Instances

CLASSES, SIDE = 6, 300


# The bundled runtime evaluates by faster-coco-eval.
pytestmark = pytest.mark.skipif(
    provider() == "official" and (find_spec("lvis") is None or not hasattr(np, "float")),
    reason="the official one needs lvis, which needs an older NumPy",
)


@pytest.fixture
def content(tmp_path):
    """Return 12 images of one to eight objects; some categories are negative or not exhaustive."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for index in range(12):
        shown = set()
        for _ in range(int(rng.integers(1, 9))):
            w, h = rng.uniform(8, 110, 2)
            x, y = rng.uniform(0, SIDE - w), rng.uniform(0, SIDE - h)
            category = int(rng.integers(1, CLASSES + 1))
            shown.add(category)
            x, y, w, h = (round(float(value), 2) for value in (x, y, w, h))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index,
                    "category_id": category,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                }
            )
        absent = [c for c in range(1, CLASSES + 1) if c not in shown and rng.random() < 0.5]
        images.append(
            {
                "id": index,
                "height": SIDE,
                "width": SIDE,
                "neg_category_ids": absent,
                "not_exhaustive_category_ids": [c for c in sorted(shown) if rng.random() < 0.3],
            }
        )
    categories = [
        {"id": c, "name": f"c{c}", "synonyms": [f"c{c}"], "frequency": "rcf"[c % 3]}
        for c in range(1, CLASSES + 1)
    ]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "lvis.json").write_text(json.dumps(content))
    meta = MetadataCatalog.get("lvis_eval_test")
    meta.set(json_file=str(tmp_path / "lvis.json"), thing_classes=[c["name"] for c in categories])
    yield content
    MetadataCatalog.remove("lvis_eval_test")


def detections(objects, seed, noise):
    """Return three detections per object."""
    rng = np.random.default_rng(seed)
    boxes, labels, scores = [], [], []
    for found in objects:
        for _ in range(3):
            x, y, w, h = found["bbox"]
            moved = np.array([x, y, x + w, y + h]) + noise * rng.normal(size=4) * [w, h, w, h]
            boxes.append(moved.clip(0, SIDE).tolist())
            right = rng.random() < 0.8 or not noise
            labels.append(found["category_id"] - 1 if right else int(rng.integers(0, CLASSES)))
            scores.append(float(rng.random()))
    instances = Instances((SIDE, SIDE))
    instances.pred_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
    instances.scores = torch.tensor(scores)
    instances.pred_classes = torch.tensor(labels).long()
    instances.pred_masks = torch.zeros(len(boxes), SIDE, SIDE, dtype=torch.bool)
    for mask, box in zip(instances.pred_masks, boxes, strict=True):
        left, top, right, bottom = (int(value + 0.5) for value in box)
        mask[top:bottom, left:right] = True
    return instances


def evaluate(content, noise=0.1, **options):
    evaluator = LVISEvaluator("lvis_eval_test", distributed=False, **options)
    evaluator.reset()
    for image in content["images"]:
        objects = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        instances = detections(objects, 100 + image["id"], noise)
        evaluator.process([{"image_id": image["id"]}], [{"instances": instances}])
    return evaluator.evaluate()


def test_ground_truth_as_detections_scores_100(content):
    results = evaluate(content, noise=0)
    assert list(results["bbox"]) == ["AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf"]
    # Of three equal detections two count as mistakes, but after all objects are found.
    assert results["bbox"]["AP50"] > 50
    assert set(results) == {"bbox", "segm"}


# AP, AP50, AP75, by size and by frequency; by lvis 0.5.3.
# fmt: off
ALL = {
    "bbox": [43.664856, 82.199768, 35.221301, 43.954895, 45.168358, 60.0,
             51.812928, 39.605749, 39.575891],
    "segm": [44.494858, 82.199768, 40.798064, 46.357948, 45.628025, 60.0,
             54.257681, 39.563385, 39.663509],
}
BEST_FIVE = {
    "bbox": [25.521269, 50.385039, 19.042904, 28.930143, 24.973185, 16.666667,
             33.553905, 24.678218, 18.331683],
    "segm": [25.847726, 50.385039, 23.058306, 29.367437, 25.545792, 16.666667,
             33.69747, 25.041254, 18.804455],
}
# fmt: on


@pytest.mark.parametrize(("limit", "expected"), [(None, ALL), (5, BEST_FIVE), (-1, ALL)])
def test_metrics_of_noisy_detections_match_lvis_api(content, limit, expected):
    results = evaluate(content, max_dets_per_image=limit)
    for task, values in expected.items():
        assert list(results[task].values()) == pytest.approx(values, abs=1e-4)


def test_results_are_written_with_categories_from_one(content, tmp_path):
    evaluate(content, output_dir=str(tmp_path / "out"))
    written = json.loads((tmp_path / "out" / "lvis_instances_results.json").read_text())
    assert {found["category_id"] for found in written} == set(range(1, CLASSES + 1))
    assert (tmp_path / "out" / "instances_predictions.pth").exists()


def test_metrics_without_detections_are_nan(content):
    evaluator = LVISEvaluator("lvis_eval_test", distributed=False)
    evaluator.reset()
    evaluator.process([{"image_id": 0}], [{"instances": detections([], 0, 0)}])
    assert np.isnan(list(evaluator.evaluate()["bbox"].values())).all()
