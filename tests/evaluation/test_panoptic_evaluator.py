"""Evaluation on panoptic data: panoptic, semantic and instance predictions."""

import json

import pytest
import torch

from d2ext.config import get_cfg
from d2ext.data.dataset_paths import register_specs
from d2ext.data.segment_maps import read_segment_ids
from d2ext.evaluation import build_evaluator
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BitMasks, Instances
from tests.helpers.panoptic_data import segment_ids, write_panoptic


@pytest.fixture
def name(tmp_path, request):
    name = f"panoptic_evaluator_{request.node.name}"
    register_specs([{"name": name, "path": str(write_panoptic(tmp_path / "data"))}])
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def evaluate(name: str, folder, outputs: list[dict], architecture="GeneralizedRCNN") -> dict:
    items = DatasetCatalog.get(name)  # also fills the metadata
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = architecture
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


def test_instances_are_compared_with_the_things(name, tmp_path):
    outputs = []
    for number in range(3):
        ids = torch.from_numpy(segment_ids(number))
        found = Instances((48, 64))
        found.pred_masks = torch.stack([ids == 1, ids == 2, ids == 3])
        found.pred_boxes = BitMasks(found.pred_masks).get_bounding_boxes()
        found.pred_classes, found.scores = torch.tensor([0, 1, 1]), torch.ones(3)
        outputs.append({"instances": found})
    results = evaluate(name, tmp_path, outputs)
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
