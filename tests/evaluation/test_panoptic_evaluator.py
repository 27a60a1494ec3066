"""Evaluation on panoptic data: panoptic, semantic and instance predictions."""

import argparse
import json

import pytest
import torch

from d2ext.config import get_cfg
from d2ext.data.dataset_paths import register_specs
from d2ext.data.segment_maps import read_segment_ids
from d2ext.engine.launch import launch
from d2ext.evaluation import build_evaluator
from d2ext.evaluation.panoptic_evaluator import RESULTS
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_panoptic
from detectron2.structures import BitMasks, Instances
from tests.helpers.panoptic_data import (
    CATEGORIES,
    segment_ids,
    segments_of,
    write_panoptic,
)
from tests.helpers.workers import evaluate_share


@pytest.fixture
def name(tmp_path, request):
    name = f"panoptic_evaluator_{request.node.name}"
    register_specs([{"name": name, "path": str(write_panoptic(tmp_path / "data"))}])
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def evaluate(
    name: str, folder, outputs: list[dict], architecture="GeneralizedRCNN", boundary=False
) -> dict:
    items = DatasetCatalog.get(name)  # also fills the metadata
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE, cfg.TEST.BOUNDARY_IOU = architecture, boundary
    evaluator = build_evaluator(cfg, name, folder)
    evaluator.reset()
    for item, output in zip(items, outputs, strict=True):
        evaluator.process([item], [output])
    return evaluator.evaluate()


def true_segments(number: int) -> dict:
    classes = {700: 0, 1: 1, 70000: 2, 2: 3, 3: 3}
    found = [{"id": i, "category_id": c, "isthing": c in (1, 3)} for i, c in classes.items()]
    return {"panoptic_seg": (torch.from_numpy(segment_ids(number)), found)}


def test_the_truth_is_perfect(name, tmp_path):
    results = evaluate(name, tmp_path, [true_segments(n) for n in range(3)])
    assert list(results) == ["panoptic_seg"]
    assert results["panoptic_seg"] == dict.fromkeys(
        f"{metric}{suffix}" for suffix in ("", "_th", "_st") for metric in ("PQ", "SQ", "RQ")
    ) | dict.fromkeys(results["panoptic_seg"], 100.0)


def test_a_thing_of_another_class_costs_two_classes(name, tmp_path):
    outputs = [true_segments(n) for n in range(3)]
    outputs[1]["panoptic_seg"][1][1]["category_id"] = 3
    found = evaluate(name, tmp_path, outputs)["panoptic_seg"]
    # cat: 2 matched, 1 missed; dog: 6 matched, 1 extra.
    assert found["PQ_th"] == pytest.approx((200 / 2.5 + 600 / 6.5) / 2)
    assert found["PQ_st"] == 100
    assert found["PQ"] == pytest.approx((found["PQ_th"] + 100) / 2)


def test_results_list_classes_and_the_worst_images(name, tmp_path):
    outputs = [true_segments(n) for n in range(3)]
    outputs[1]["panoptic_seg"][1][1]["category_id"] = 3
    evaluate(name, tmp_path, outputs)
    document = json.loads((tmp_path / "panoptic_quality.json").read_text())
    cat = document["classes"][1]
    assert (cat["name"], cat["isthing"], cat["matched"], cat["missed"]) == ("cat", True, 2, 1)
    worst = document["worst"][0]
    assert worst["file_name"].endswith("train_1.jpg")
    assert worst["quality"] == pytest.approx(0.8)
    ids = read_segment_ids(tmp_path / worst["segment_map"])
    torch.testing.assert_close(torch.from_numpy(ids), torch.from_numpy(segment_ids(1)))
    assert worst["segments_info"][1] == {"id": 1, "category_id": 3}


def test_boundary_quality_is_an_option(name, tmp_path):
    outputs = [true_segments(n) for n in range(3)]
    ids, found = outputs[0]["panoptic_seg"]
    outputs[0]["panoptic_seg"] = ids.roll(1, dims=0), found
    results = evaluate(name, tmp_path, outputs, boundary=True)
    assert list(results) == ["panoptic_seg", "boundary_panoptic_seg"]
    plain, boundary = results.values()
    assert boundary.keys() == plain.keys()
    assert 0 < boundary["PQ"] < plain["PQ"] < 100


def test_semantic_scores_are_compared_with_the_categories(name, tmp_path):
    outputs = []
    for number in range(3):
        ids = torch.from_numpy(segment_ids(number))
        labels = [(ids == 700) | (ids == 1), ids < 0, ids == 70000, (ids == 2) | (ids == 3)]
        outputs.append({"sem_seg": torch.stack(labels).float()})
    found = evaluate(name, tmp_path, outputs)["sem_seg"]
    sky, cats = 1536 - 40 - 192 - 16, 192  # a dog reaches 4 rows into the sky
    assert found["IoU-sky"] == pytest.approx(100 * sky / (sky + cats))
    assert found["IoU-cat"] == 0
    assert found["IoU-grass"] == found["IoU-dog"] == 100
    assert found["mIoU"] == pytest.approx((found["IoU-sky"] + 200) / 4)
    assert found["pACC"] == pytest.approx(100 * (1 - cats / (48 * 64 - 16)))


def true_things(number: int) -> Instances:
    """Return the cat and the two dogs of an image, counted without the stuff."""
    ids = torch.from_numpy(segment_ids(number))
    found = Instances((48, 64))
    found.pred_masks = torch.stack([ids == 1, ids == 2, ids == 3])
    found.pred_boxes = BitMasks(found.pred_masks).get_bounding_boxes()
    found.pred_classes, found.scores = torch.tensor([0, 1, 1]), torch.ones(3)
    return found


def test_instances_are_compared_with_the_things(name, tmp_path):
    results = evaluate(name, tmp_path, [{"instances": true_things(n)} for n in range(3)])
    assert results["bbox"]["AP"] == pytest.approx(100)
    assert results["segm"]["AP"] == pytest.approx(100)


def test_a_model_of_all_tasks_is_measured_by_all(name, tmp_path):
    outputs = [true_segments(n) | {"sem_seg": torch.zeros(4, 48, 64)} for n in range(3)]
    assert list(evaluate(name, tmp_path, outputs)) == ["panoptic_seg", "sem_seg"]


def test_panoptic_fpn_is_measured_by_its_own_numbers_of_things_and_stuff(name, tmp_path):
    outputs = []
    for number in range(3):
        ids, segments = true_segments(number)["panoptic_seg"]
        own = {0: 1, 1: 0, 2: 2, 3: 1}  # sky and grass are stuff 1 and 2, cat and dog things 0, 1
        segments = [{**each, "category_id": own[each["category_id"]]} for each in segments]
        stuff = torch.stack([(ids > 0) & (ids < 4), ids == 700, ids == 70000])
        outputs.append({"panoptic_seg": (ids, segments), "sem_seg": stuff.float()})
    found = evaluate(name, tmp_path, outputs, "PanopticFPN")
    assert set(found["panoptic_seg"].values()) == {100.0}
    assert found["sem_seg"]["mIoU"] == found["sem_seg"]["IoU-things"] == 100


def instances_of(things: set[int]) -> dict:
    """Return the COCO document of the images' things, whose categories are those of `things`."""
    document: dict = {"info": {}, "images": [], "annotations": []}
    document["categories"] = [item for item in CATEGORIES if item["id"] in things]
    for number in range(3):
        document["images"].append({"id": number + 1, "file_name": "", "height": 48, "width": 64})
        for segment in segments_of(segment_ids(number)):
            if segment["category_id"] in things:
                x, y, w, h = segment["bbox"]
                outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
                own = {"id": len(document["annotations"]) + 1, "image_id": number + 1}
                document["annotations"].append({**segment, **own, "segmentation": outline})
    return document


@pytest.fixture
def detectron2_name(tmp_path):
    """A data set as Detectron2 registers COCO panoptic: without semantic label images."""
    path, name = write_panoptic(tmp_path / "data"), "panoptic_of_detectron2"
    numbers = {item["id"]: number for number, item in enumerate(CATEGORIES)}
    things = {item["id"] for item in CATEGORIES if item["isthing"]}
    names = [item["name"] for item in CATEGORIES]
    metadata = {
        "thing_classes": names,
        "stuff_classes": names,
        "thing_dataset_id_to_contiguous_id": {i: n for i, n in numbers.items() if i in things},
        "stuff_dataset_id_to_contiguous_id": {i: n for i, n in numbers.items() if i not in things},
    }
    folders = path.parent / "images", path.with_suffix("")
    things_file = tmp_path / "instances.json"
    things_file.write_text(json.dumps(instances_of(things)))
    register_coco_panoptic(name, metadata, *map(str, folders), str(path), str(things_file))
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)
    MetadataCatalog.pop(f"{name}_things", None)


def test_a_data_set_of_detectron2_is_measured_by_its_segments_and_things(detectron2_name, tmp_path):
    outputs = [true_segments(n) | {"sem_seg": torch.zeros(4, 48, 64)} for n in range(3)]
    for number, output in enumerate(outputs):
        output["instances"] = true_things(number)
    results = evaluate(detectron2_name, tmp_path, outputs)
    assert list(results) == ["bbox", "segm", "sem_seg", "panoptic_seg"]
    assert set(results["panoptic_seg"].values()) == {100.0}
    assert results["sem_seg"]["IoU-dog"] == 0
    assert results["segm"]["AP"] == pytest.approx(100)


def outputs_of_all_tasks(number: int) -> dict:
    """Return predictions of every kind, none of them perfect and each image's another."""
    panoptic = true_segments(number)
    ids = panoptic["panoptic_seg"][0].roll(number + 1, dims=1)
    panoptic["panoptic_seg"][1][1]["category_id"] = 1 + 2 * (number % 2)
    found = Instances((48, 64))
    found.pred_masks = torch.stack([ids == 1, ids == 2, ids == 3])
    found.pred_boxes = BitMasks(found.pred_masks).get_bounding_boxes()
    found.pred_classes = torch.tensor([0, 1, 1])
    found.scores = torch.tensor([0.9, 0.8, 0.7]) - 0.01 * number
    labels = torch.stack([ids == 700, ids == 1, ids == 70000, (ids == 2) | (ids == 3)]).float()
    return {
        "panoptic_seg": (ids, panoptic["panoptic_seg"][1]),
        "sem_seg": labels,
        "instances": found,
    }


@pytest.mark.slow
def test_two_processes_measure_what_one_does(name, tmp_path):
    outputs = [outputs_of_all_tasks(number) for number in range(3)]
    one = evaluate(name, tmp_path / "one", outputs)
    two = tmp_path / "two"
    path = str(tmp_path / "data" / "panoptic_train.json")
    args = argparse.Namespace(num_gpus=2, num_machines=1, machine_rank=0, dist_url="auto")
    launch(evaluate_share, args, name, path, two, outputs, device="cpu")
    results = json.loads((two / "results.json").read_text())
    assert list(results) == list(one) == ["panoptic_seg", "sem_seg", "bbox", "segm"]
    for task, metrics in one.items():
        assert results[task] == pytest.approx(metrics, abs=1e-9, nan_ok=True), task
        assert 0 < next(iter(metrics.values())) < 100  # PQ, mIoU or AP
    rows = json.loads((tmp_path / "one" / RESULTS).read_text())["classes"]
    found = json.loads((two / RESULTS).read_text())
    assert found["classes"] == [pytest.approx(row) for row in rows]
    assert len(found["worst"]) == 3
