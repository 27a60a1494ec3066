import copy
import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image

from d2ext._detectron2 import provider
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOPanopticEvaluator

THINGS, STUFF = {1: 0, 3: 1}, {92: 2, 95: 3}
CONTIGUOUS = {**THINGS, **STUFF}


# The bundled runtime has its own arithmetic.
pytestmark = pytest.mark.skipif(
    provider() == "official" and find_spec("panopticapi") is None,
    reason="the official one needs panopticapi",
)


def save(ids, path):
    planes = [ids % 256, ids // 256 % 256, ids // 65536]
    Image.fromarray(np.stack(planes, axis=-1).astype(np.uint8)).save(path)


@pytest.fixture
def truth(tmp_path):
    """Return two images of 20x20: a person, a car, a crowd of persons, sky, and two empty rows."""
    (tmp_path / "labels").mkdir()
    ids = np.zeros((20, 20), dtype=np.int64)
    for number, (top, bottom) in enumerate(((0, 6), (6, 10), (10, 14)), 1):
        ids[top:bottom] = 300 * number
    ids[14:18] = 7
    segments = [
        {"id": 300, "category_id": 1, "iscrowd": 0},
        {"id": 600, "category_id": 3, "iscrowd": 0},
        {"id": 900, "category_id": 1, "iscrowd": 1},
        {"id": 7, "category_id": 92, "iscrowd": 0},
    ]
    for segment in segments:
        segment["area"] = int((ids == segment["id"]).sum())
    annotations = []
    for image in range(2):
        save(ids, tmp_path / f"labels/{image}.png")
        annotations.append(
            {"image_id": image, "file_name": f"{image}.png", "segments_info": segments}
        )
    categories = [
        {"id": c, "name": str(c), "isthing": int(c in THINGS)} for c in sorted(CONTIGUOUS)
    ]
    images = [{"id": image, "file_name": f"{image}.jpg"} for image in range(2)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    MetadataCatalog.get("panoptic_eval_test").set(
        panoptic_root=str(tmp_path / "labels"),
        panoptic_json=str(tmp_path / "panoptic.json"),
        thing_dataset_id_to_contiguous_id=THINGS,
        stuff_dataset_id_to_contiguous_id=STUFF,
        label_divisor=1000,
    )
    yield ids, segments
    MetadataCatalog.remove("panoptic_eval_test")


def predicted(segments):
    return [
        {"id": s["id"], "category_id": CONTIGUOUS[s["category_id"]], "isthing": s["id"] != 7}
        for s in segments
    ]


def evaluate(predictions, output_dir=None):
    evaluator = COCOPanopticEvaluator("panoptic_eval_test", output_dir)
    evaluator.reset()
    for image, prediction in enumerate(predictions):
        inputs = {"file_name": f"somewhere/{image}.jpg", "image_id": image}
        evaluator.process([inputs], [{"panoptic_seg": copy.deepcopy(prediction)}])
    return evaluator.evaluate()["panoptic_seg"]


def test_ground_truth_as_predictions_scores_100(truth):
    ids, segments = truth
    results = evaluate([(torch.tensor(ids), predicted(segments))] * 2)
    assert list(results) == [f"{m}{k}" for k in ("", "_th", "_st") for m in ("PQ", "SQ", "RQ")]
    assert all(value == pytest.approx(100) for value in results.values())


def test_quality_counts_overlaps_false_negatives_and_false_positives(truth):
    ids, segments = truth
    # The person is cut to 4 of 6 rows, the car is called sky, the true sky is right.
    ids = ids.copy()
    ids[4:6] = 0
    found = predicted(segments)
    found[1].update(category_id=2, isthing=False)
    found[2].update(category_id=0)
    results = evaluate([(torch.tensor(ids), found)] * 2)
    # person: IoU 4/6; car: missed; sky: one hit, one extra of each image.
    assert results["PQ_th"] == pytest.approx(100 * (4 / 6 + 0) / 2)
    assert results["SQ_th"] == pytest.approx(100 * (4 / 6) / 2)
    assert results["RQ_st"] == pytest.approx(100 / 1.5)
    assert results["PQ"] == pytest.approx(100 * (4 / 6 + 0 + 1 / 1.5) / 3)


def test_segments_on_crowds_or_unlabelled_pixels_are_no_false_positives(truth):
    ids, segments = truth
    ids = ids.copy()
    ids[18:] = 5  # nothing is annotated there
    found = [*predicted(segments), {"id": 5, "category_id": 1, "isthing": True}]
    results = evaluate([(torch.tensor(ids), found)] * 2)
    assert results["PQ"] == pytest.approx(100)


def test_segments_are_derived_from_labels_with_a_divisor(truth):
    ids, _ = truth
    labels = np.full_like(ids, -1)
    for value, label in ((300, 0), (600, 1000), (900, 1), (7, 2000)):
        labels[ids == value] = label
    results = evaluate([(torch.tensor(labels), None)] * 2)
    assert results["PQ"] == pytest.approx(100)


def test_predictions_are_written_with_the_categories_of_the_dataset(truth, tmp_path):
    ids, segments = truth
    evaluate([(torch.tensor(ids), predicted(segments))] * 2, str(tmp_path / "out"))
    written = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [found["file_name"] for found in written["annotations"]] == ["0.png", "1.png"]
    assert written["annotations"][0]["segments_info"][3] == {"id": 7, "category_id": 92}


def test_an_image_without_prediction_is_named_in_the_error(truth):
    ids, segments = truth
    with pytest.raises(Exception, match=r"no prediction.*1"):
        evaluate([(torch.tensor(ids), predicted(segments))])
