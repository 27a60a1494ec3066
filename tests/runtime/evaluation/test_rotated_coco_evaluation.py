import json

import numpy as np
import pytest
import torch

import d2ext.ops  # noqa: F401  # registers the operators
from detectron2.data import MetadataCatalog
from detectron2.evaluation import RotatedCOCOEvaluator
from detectron2.evaluation.rotated_coco_evaluation import RotatedCOCOeval
from detectron2.structures import Instances, RotatedBoxes

needs_operator = pytest.mark.skipif(
    not hasattr(torch.ops.detectron2, "box_iou_rotated"), reason="the operator is not registered"
)


@pytest.fixture
def annotations(tmp_path):
    rng = np.random.default_rng(0)
    annotations = []
    for index in range(30):
        w, h = rng.uniform(10, 60, 2).tolist()
        box = [*rng.uniform(30, 170, 2).tolist(), w, h, float(rng.uniform(-90, 90))]
        category = int(rng.integers(1, 4))
        head = {"id": index + 1, "image_id": index // 5, "category_id": category, "iscrowd": 0}
        annotations.append({**head, "bbox": box, "area": w * h})
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 200, "width": 200} for i in range(6)]
    categories = [{"id": c, "name": "abc"[c - 1]} for c in (1, 2, 3)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "rotated.json").write_text(json.dumps(content))
    MetadataCatalog.get("rotated_eval_test").set(
        json_file=str(tmp_path / "rotated.json"),
        thing_classes=["a", "b", "c"],
        thing_dataset_id_to_contiguous_id={1: 0, 2: 1, 3: 2},
    )
    yield annotations
    MetadataCatalog.remove("rotated_eval_test")


def evaluate(annotations, noise, output_dir=None):
    evaluator = RotatedCOCOEvaluator("rotated_eval_test", distributed=False, output_dir=output_dir)
    evaluator.reset()
    rng = np.random.default_rng(1)
    for image in range(6):
        found = [a for a in annotations if a["image_id"] == image]
        boxes = [np.array(a["bbox"]) + noise * rng.normal(size=5) for a in found]
        instances = Instances((200, 200))
        instances.pred_boxes = RotatedBoxes(torch.tensor(np.array(boxes), dtype=torch.float32))
        instances.scores = torch.tensor(rng.random(len(found)))
        instances.pred_classes = torch.tensor([a["category_id"] - 1 for a in found])
        evaluator.process([{"image_id": image}], [{"instances": instances}])
    return evaluator.evaluate()


@needs_operator
def test_ground_truth_as_detections_scores_100(annotations, tmp_path):
    results = evaluate(annotations, noise=0, output_dir=str(tmp_path))
    assert results["bbox"]["AP"] == pytest.approx(100)
    written = json.loads((tmp_path / "coco_instances_results.json").read_text())
    assert written[0]["bbox"] == pytest.approx(annotations[0]["bbox"], rel=1e-5)
    assert {found["category_id"] for found in written} == {1, 2, 3}


@needs_operator
def test_metrics_of_noisy_detections_match_detectron2(annotations):
    found = evaluate(annotations, noise=3.0)["bbox"]
    assert list(found)[:6] == ["AP", "AP50", "AP75", "APs", "APm", "APl"]
    assert found["AP"] == pytest.approx(46.766969, abs=1e-4)
    assert found["AP-b"] == pytest.approx(51.250825, abs=1e-4)


def test_boxes_of_four_numbers_are_upright():
    assert RotatedCOCOeval.is_rotated([[1, 2, 3, 4, 5]])
    assert not RotatedCOCOeval.is_rotated([[1, 2, 3, 4]])
    boxes = RotatedCOCOeval.boxlist_to_tensor([[10.0, 20.0, 30.0, 40.0]], 5)
    assert boxes.tolist() == [[25.0, 40.0, 30.0, 40.0, 0.0]]
    assert RotatedCOCOeval.boxlist_to_tensor([], 5).shape == (0, 5)
