"""AP where nothing is found, nothing is there, or objects lack what others have."""

import json
import logging
import math

import pytest
import torch

from d2ext.config import get_cfg
from d2ext.data.catalog import register_coco
from d2ext.evaluation import build_evaluator
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, Instances, RotatedBoxes
from tests.helpers.catalog import free_names
from tests.helpers.dataset_folders import save_image, write

NAME = "coco_ap"
SQUARE = [[2, 3, 22, 3, 22, 13, 2, 13]]


@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    """Evaluates detections on one image with the given annotations."""
    monkeypatch.setenv("D2EXT_CACHE", str(tmp_path / "cache"))

    def call(annotations, found=None, **model):
        save_image(tmp_path / "a.png", 200, 200)
        images = [{"id": 1, "file_name": "a.png", "width": 200, "height": 200}]
        items = [
            {"id": n, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 200, **item}
            for n, item in enumerate(annotations, start=1)
        ]
        content = {"info": {}, "images": images, "annotations": items}
        content["categories"] = [{"id": 1, "name": "cat"}]
        register_coco(NAME, write(tmp_path / "a.json", json.dumps(content)), tmp_path)
        (image,) = DatasetCatalog.get(NAME)
        cfg = get_cfg()
        for key, value in model.items():
            setattr(cfg.MODEL, key, value)
        cfg.TEST.KEYPOINT_OKS_SIGMAS = [0.1] if cfg.MODEL.KEYPOINT_ON else []
        evaluator = build_evaluator(cfg, NAME, tmp_path / "out")
        evaluator.reset()
        evaluator.process([image], [{"instances": detections(**(found or {}))}])
        return evaluator.evaluate()

    with free_names():
        yield call


def detections(boxes=(), masks=None, points=None, rotated=False):
    found = Instances((200, 200), scores=torch.ones(len(boxes)))
    values = torch.tensor(boxes, dtype=torch.float32).reshape(len(boxes), 5 if rotated else 4)
    found.pred_boxes = RotatedBoxes(values) if rotated else Boxes(values)
    found.pred_classes = torch.zeros(len(boxes), dtype=torch.int64)
    if masks is not None:
        found.pred_masks = masks
    if points is not None:
        found.pred_keypoints = points
    return found


@pytest.mark.parametrize(
    ("more", "model", "tasks"),
    [
        ({}, {}, {"bbox"}),
        ({"segmentation": SQUARE}, {"MASK_ON": True}, {"bbox", "segm"}),
        (
            {"keypoints": [4, 4, 2], "num_keypoints": 1},
            {"KEYPOINT_ON": True},
            {"bbox", "keypoints"},
        ),
    ],
)
def test_objects_without_a_detection_give_an_ap_of_0(evaluate, more, model, tasks):
    results = evaluate([{"bbox": [2, 3, 20, 10], **more}], **model)
    assert set(results) == tasks
    for metrics in results.values():
        assert (metrics["AP"], metrics["AP50"]) == (0, 0)
        assert math.isnan(metrics["APl"])  # there are no large objects
    assert results["bbox"]["APs"] == 0


def test_rotated_boxes_without_a_detection_give_an_ap_of_0(evaluate):
    results = evaluate([{"bbox": [60, 60, 20, 10, 30]}], {"rotated": True})
    assert results["bbox"]["AP"] == 0


def test_no_objects_give_no_ap_and_a_line_that_says_so(evaluate, caplog):
    with caplog.at_level(logging.WARNING, logger="d2ext"):
        results = evaluate([])
    assert math.isnan(results["bbox"]["AP"])
    assert f"{NAME}: has no objects, so AP cannot be measured" in caplog.text


def test_a_detection_that_hits_has_an_ap_of_100(evaluate):
    results = evaluate([{"bbox": [2, 3, 20, 10]}], {"boxes": [[2, 3, 22, 13]]})
    assert results["bbox"]["AP"] == pytest.approx(100)


def test_the_box_of_an_object_without_a_mask_stands_for_its_mask(evaluate):
    masks = torch.zeros(2, 200, 200, dtype=torch.bool)
    masks[0, 3:13, 2:22] = masks[1, 50:60, 40:60] = True
    boxes = [[2, 3, 22, 13], [40, 50, 60, 60]]
    objects = [{"bbox": [2, 3, 20, 10], "segmentation": SQUARE}, {"bbox": [40, 50, 20, 10]}]
    results = evaluate(objects, {"boxes": boxes, "masks": masks}, MASK_ON=True)
    assert results["segm"]["AP"] == pytest.approx(100)


def test_an_object_without_keypoints_is_not_measured_by_keypoints(evaluate):
    points = torch.tensor([[[4.5, 4.5, 1.0]]])
    objects = [
        {"bbox": [2, 3, 20, 10], "keypoints": [4, 4, 2], "num_keypoints": 1},
        {"bbox": [90, 90, 20, 10]},
    ]
    found = {"boxes": [[2, 3, 22, 13]], "points": points}
    results = evaluate(objects, found, KEYPOINT_ON=True)
    assert results["keypoints"]["AP"] == pytest.approx(100)
    assert results["bbox"]["AP"] < 100


def test_masks_are_not_measured_on_data_without_any(evaluate, caplog):
    masks = torch.zeros(1, 200, 200, dtype=torch.bool)
    found = {"boxes": [[2, 3, 22, 13]], "masks": masks}
    with caplog.at_level(logging.WARNING, logger="d2ext"):
        results = evaluate([{"bbox": [2, 3, 20, 10]}], found, MASK_ON=True)
    assert set(results) == {"bbox"}
    assert f"{NAME}: has no masks, so their AP is not measured" in caplog.text
