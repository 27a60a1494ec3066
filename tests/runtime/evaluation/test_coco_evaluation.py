import json
import math

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch

from d2ext._detectron2 import provider
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Boxes, BoxMode, Instances

H, W = 60, 80
bundled_only = pytest.mark.skipif(provider() != "bundled", reason="the official one needs them")


def rle(box):
    x, y, width, height = box
    mask = np.zeros((H, W), dtype=np.uint8)
    mask[y : y + height, x : x + width] = 1
    encoded = mask_util.encode(np.asfortranarray(mask))
    return {**encoded, "counts": encoded["counts"].decode()}


def annotation(number, image_id, category, box, crowd=0):
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category,
        "bbox": box,
        "area": box[2] * box[3],
        "iscrowd": crowd,
        "segmentation": rle(box),
    }


CONTENT = {
    "images": [{"id": i, "file_name": f"{i}.jpg", "width": W, "height": H} for i in (5, 6, 9)],
    "categories": [{"id": 30, "name": "käse"}, {"id": 4, "name": "brot"}],
    "annotations": [
        annotation(1, 5, 30, [10, 10, 20, 20]),
        annotation(2, 5, 4, [40, 10, 30, 40]),
        annotation(3, 6, 4, [5, 5, 10, 10]),
        annotation(4, 6, 4, [40, 20, 30, 30], crowd=1),
    ],
}


@pytest.fixture
def name(tmp_path):
    (tmp_path / "a ü.json").write_text(json.dumps(CONTENT), encoding="utf-8")
    register_coco_instances("coco_eval_test", {}, str(tmp_path / "a ü.json"), str(tmp_path))
    DatasetCatalog.get("coco_eval_test")
    yield "coco_eval_test"
    DatasetCatalog.remove("coco_eval_test")
    MetadataCatalog.remove("coco_eval_test")


def detections(*found):
    """Return detections from tuples of score, contiguous class and XYWH box."""
    instances = Instances((H, W))
    boxes = [[x, y, x + w, y + h] for _, _, (x, y, w, h) in found]
    instances.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.scores = torch.tensor([score for score, _, _ in found])
    instances.pred_classes = torch.tensor([c for _, c, _ in found], dtype=torch.int64)
    masks = [mask_util.decode(rle(box)) for _, _, box in found]
    instances.pred_masks = torch.from_numpy(np.array(masks).reshape(-1, H, W)).bool()
    return instances


PERFECT = [
    detections((0.9, 1, [10, 10, 20, 20]), (0.8, 0, [40, 10, 30, 40])),
    detections((0.7, 0, [5, 5, 10, 10])),
    detections(),
]
# The first of class 0 is right, the second is shifted by a third of its side: IoU 1/2.
FLAWED = [
    detections((0.9, 1, [10, 10, 20, 20]), (0.8, 0, [40, 10, 30, 40])),
    detections((0.7, 0, [5, 5, 10, 5]), (0.6, 0, [45, 25, 20, 20])),
    detections(),
]


def evaluate(evaluator, found, **options):
    evaluator.reset()
    for image, instances in zip(CONTENT["images"], found, strict=True):
        evaluator.process([{"image_id": image["id"]}], [{"instances": instances}])
    return evaluator.evaluate(**options)


def test_perfect_detections_score_100(name):
    results = evaluate(COCOEvaluator(name), PERFECT)
    assert set(results) == {"bbox", "segm"}
    for metrics in results.values():
        assert list(metrics)[:6] == ["AP", "AP50", "AP75", "APs", "APm", "APl"]
        assert metrics.pop("APl") != metrics.pop("APl", 0)  # nan: no large objects
        assert all(value == pytest.approx(100) for value in metrics.values())
        assert {"AP-brot", "AP-käse"} < set(metrics)


@pytest.mark.parametrize("fast", [True, False])
def test_metrics_of_flawed_detections_equal_hand_computed_ones(name, fast):
    # At IoU 0.5 all is found; above, brot has one of two objects: precision 1 up to recall 1/2,
    # which are 51 of COCO's 101 recall thresholds. The detection inside of the crowd is ignored.
    bbox = evaluate(COCOEvaluator(name, use_fast_impl=fast), FLAWED)["bbox"]
    half = 100 * 51 / 101
    assert bbox["AP50"] == pytest.approx(100)
    assert bbox["AP75"] == pytest.approx((100 + half) / 2)
    assert bbox["AP-brot"] == pytest.approx((100 + 9 * half) / 10)
    assert bbox["AP-käse"] == pytest.approx(100)
    assert bbox["AP"] == pytest.approx((bbox["AP-brot"] + 100) / 2)
    assert math.isnan(bbox["APl"])


def test_the_limit_of_detections_holds_per_image(name):
    bbox = evaluate(COCOEvaluator(name, tasks=("bbox",), max_dets_per_image=1), PERFECT)["bbox"]
    assert bbox["AP"] == pytest.approx(100)  # the limit is for each class of an image


def test_only_the_given_images_are_evaluated(name):
    found = evaluate(COCOEvaluator(name, tasks=("bbox",)), FLAWED, img_ids=[5])
    assert found["bbox"]["AP"] == pytest.approx(100)


def test_results_are_written_with_the_category_ids_of_the_dataset(name, tmp_path):
    evaluate(COCOEvaluator(name, output_dir=str(tmp_path / "out")), PERFECT)
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == ["coco_instances_results.json", "instances_predictions.pth"]
    path = tmp_path / "out" / "coco_instances_results.json"
    first = json.loads(path.read_text(encoding="utf-8"))[0]
    assert (first["image_id"], first["category_id"]) == (5, 30)
    assert first["bbox"] == [10, 10, 20, 20]
    assert first["score"] == pytest.approx(0.9)
    assert first["segmentation"] == rle([10, 10, 20, 20])
    saved = torch.load(tmp_path / "out" / "instances_predictions.pth", weights_only=True)
    assert [prediction["image_id"] for prediction in saved] == [5, 6, 9]


def test_metrics_without_detections_are_nan(name):
    bbox = evaluate(COCOEvaluator(name), [detections()] * 3)["bbox"]
    assert list(bbox) == ["AP", "AP50", "AP75", "APs", "APm", "APl"]
    assert all(math.isnan(value) for value in bbox.values())


def test_results_without_predictions_are_empty(name):
    evaluator = COCOEvaluator(name)
    evaluator.reset()
    assert evaluator.evaluate() == {}


def test_a_class_index_outside_of_the_dataset_is_an_error(name):
    with pytest.raises(AssertionError, match="class=7"):
        evaluate(COCOEvaluator(name), [detections((0.9, 7, [1, 1, 5, 5]))] * 3)


@bundled_only
def test_annotations_without_area_and_iscrowd_are_evaluated(tmp_path):
    shorter = [
        {field: value for field, value in annotation.items() if field not in ("area", "iscrowd")}
        for annotation in CONTENT["annotations"][:3]
    ]
    path = tmp_path / "short.json"
    path.write_text(json.dumps({**CONTENT, "annotations": shorter}))
    register_coco_instances("coco_eval_short", {}, str(path), str(tmp_path))
    DatasetCatalog.get("coco_eval_short")
    assert evaluate(COCOEvaluator("coco_eval_short"), PERFECT)["bbox"]["AP"] == pytest.approx(100)
    DatasetCatalog.remove("coco_eval_short")
    MetadataCatalog.remove("coco_eval_short")


def test_predictions_on_a_test_set_without_annotations_are_only_written(tmp_path):
    content = {key: value for key, value in CONTENT.items() if key != "annotations"}
    (tmp_path / "t.json").write_text(json.dumps(content), encoding="utf-8")
    register_coco_instances("coco_eval_unlabelled", {}, str(tmp_path / "t.json"), "")
    try:
        DatasetCatalog.get("coco_eval_unlabelled")
        evaluator = COCOEvaluator("coco_eval_unlabelled", output_dir=str(tmp_path / "out"))
        assert evaluate(evaluator, PERFECT) == {}
        assert (tmp_path / "out" / "coco_instances_results.json").exists()
    finally:
        DatasetCatalog.remove("coco_eval_unlabelled")
        MetadataCatalog.remove("coco_eval_unlabelled")


@pytest.fixture
def other_format():
    box = {"bbox": [10, 10, 30, 30], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
    images = [
        {"file_name": f"{i}", "image_id": i, "height": H, "width": W, "annotations": [box]}
        for i in (5, 6, 9)
    ]
    DatasetCatalog.register("coco_eval_other", lambda: images)
    MetadataCatalog.get("coco_eval_other").thing_classes = ["a"]
    yield "coco_eval_other"
    DatasetCatalog.remove("coco_eval_other")
    MetadataCatalog.remove("coco_eval_other")


def test_a_dataset_of_another_format_is_converted(other_format, tmp_path):
    found = [detections((0.9, 0, [10, 10, 20, 20]))] * 3
    evaluator = COCOEvaluator(other_format, tasks=("bbox",), output_dir=str(tmp_path))
    assert evaluate(evaluator, found)["bbox"]["AP"] == pytest.approx(100)
    assert (tmp_path / "coco_eval_other_coco_format.json").exists()


def test_conversion_without_output_folder_is_an_error(other_format):
    with pytest.raises(ValueError, match="output_dir"):
        COCOEvaluator(other_format)


def test_proposals_are_scored_by_recall(name):
    evaluator = COCOEvaluator(name)
    evaluator.reset()
    # The larger objects of the first two images are proposed exactly.
    for image_id, box in ((5, [40.0, 10, 70, 50]), (6, [5.0, 5, 15, 15]), (9, [0.0, 0, 9, 9])):
        proposals = Instances((H, W))
        proposals.proposal_boxes = Boxes(torch.tensor([box]))
        proposals.objectness_logits = torch.ones(1)
        evaluator.process([{"image_id": image_id}], [{"proposals": proposals}])
    recalls = evaluator.evaluate()["box_proposals"]
    assert recalls["AR@100"] == pytest.approx(200 / 3)
    assert recalls["ARm@1000"] == pytest.approx(100)
    assert recalls["ARs@100"] == pytest.approx(50)


def test_keypoints_are_moved_from_coordinates_to_pixels():
    instances = detections((0.5, 0, [1, 2, 3, 4]))
    instances.pred_keypoints = torch.tensor([[[1.5, 2.5, 0.25]]])
    (found,) = instances_to_coco_json(instances, 3)
    assert found["keypoints"] == [1.0, 2.0, 0.25]
    assert found["bbox"] == [1, 2, 3, 4]


def test_keypoint_similarity_uses_the_given_sigmas(tmp_path):
    person = {**annotation(1, 5, 1, [10, 10, 20, 20]), "keypoints": [15, 15, 2], "num_keypoints": 1}
    content = {
        "images": CONTENT["images"],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [person],
    }
    (tmp_path / "k.json").write_text(json.dumps(content), encoding="utf-8")
    register_coco_instances("coco_eval_points", {}, str(tmp_path / "k.json"), "")
    try:
        DatasetCatalog.get("coco_eval_points")
        # OKS = exp(-distance^2 / (8 area sigma^2)): for 4 pixels and 0.1, exp(-16/32) = 0.607.
        found = detections((0.9, 0, [10, 10, 20, 20]))
        found.remove("pred_masks")
        found.pred_keypoints = torch.tensor([[[19.5, 15.5, 1.0]]])
        nothing = found[:0]
        evaluator = COCOEvaluator("coco_eval_points", kpt_oks_sigmas=[0.1])
        results = evaluate(evaluator, [found, nothing, nothing])
        assert set(results) == {"bbox", "keypoints"}
        assert list(results["keypoints"]) == ["AP", "AP50", "AP75", "APm", "APl"]
        assert results["keypoints"]["AP"] == pytest.approx(30)
        assert results["keypoints"]["AP50"] == pytest.approx(100)
        wrong = COCOEvaluator("coco_eval_points", kpt_oks_sigmas=[0.1] * 3)
        with pytest.raises(AssertionError, match="3"):
            evaluate(wrong, [found, nothing, nothing])
    finally:
        DatasetCatalog.remove("coco_eval_points")
        MetadataCatalog.remove("coco_eval_points")
