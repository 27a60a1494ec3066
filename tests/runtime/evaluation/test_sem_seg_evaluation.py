import json

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import SemSegEvaluator
from detectron2.evaluation.sem_seg_evaluation import load_image_into_numpy_array

CLASSES = 5  # the last never occurs
IGNORED = 255


@pytest.fixture
def name(tmp_path):
    rng = np.random.default_rng(0)
    images = []
    for index in range(3):
        labels = rng.integers(0, 4, (20, 30)).repeat(3, 0).repeat(3, 1).astype(np.uint8)
        labels[:5] = IGNORED
        Image.fromarray(labels).save(tmp_path / f"{index}.png")
        images.append({"file_name": f"{index}.jpg"})
        images[-1]["sem_seg_file_name"] = str(tmp_path / f"{index}.png")
    DatasetCatalog.register("sem_seg_test", lambda: images)
    MetadataCatalog.get("sem_seg_test").set(stuff_classes=[*"abcd", "never"], ignore_label=IGNORED)
    yield "sem_seg_test"
    DatasetCatalog.remove("sem_seg_test")
    MetadataCatalog.remove("sem_seg_test")


def scores(labels):
    return torch.nn.functional.one_hot(torch.tensor(labels).long(), CLASSES).permute(2, 0, 1)


def evaluate(name, predict, **options):
    evaluator = SemSegEvaluator(name, distributed=False, **options)
    evaluator.reset()
    for image in DatasetCatalog.get(name):
        truth = load_image_into_numpy_array(image["sem_seg_file_name"], dtype=int)
        evaluator.process([image], [{"sem_seg": scores(predict(truth))}])
    return evaluator.evaluate()["sem_seg"]


def noisy():
    """Return labels of which three in ten are replaced by random ones."""
    rng = np.random.default_rng(1)

    def predict(truth):
        kept = rng.random(truth.shape) < 0.7
        known = np.where(truth == IGNORED, 0, truth)
        return np.where(kept, known, rng.integers(0, CLASSES, truth.shape))

    return predict


def test_ground_truth_scores_100_with_any_label_at_ignored_pixels(name):
    results = evaluate(name, lambda truth: np.where(truth == IGNORED, 4, truth))
    for metric in ("mIoU", "fwIoU", "mACC", "pACC", "IoU-a", "ACC-b"):
        assert results[metric] == pytest.approx(100)
    assert np.isnan(results["IoU-never"])


def test_metrics_of_noisy_predictions_match_detectron2(name):
    results = evaluate(name, noisy())
    expected = {
        "mIoU": 64.21750873,
        "fwIoU": 64.25225732,
        "IoU-a": 62.87584869,
        "BoundaryIoU-a": 51.90605834,
        "min(IoU, B-Iou)-a": 51.90605834,
        "BoundaryIoU-never": 0.87378641,
        "mACC": 75.86884714,
        "pACC": 75.87878788,
        "ACC-d": 75.96424010,
    }
    assert {metric: results[metric] for metric in expected} == pytest.approx(expected)
    assert len(results) == 4 + 4 * CLASSES


def test_predictions_are_written_with_the_categories_of_the_dataset(name, tmp_path):
    meta = MetadataCatalog.get(name)
    meta.stuff_dataset_id_to_contiguous_id = {10 * (c + 1): c for c in range(CLASSES)}
    evaluate(name, noisy(), output_dir=str(tmp_path / "out"))
    written = json.loads((tmp_path / "out" / "sem_seg_predictions.json").read_text())
    assert len(written) == 3 * CLASSES
    assert {found["category_id"] for found in written} == {10, 20, 30, 40, 50}
    assert written[0]["segmentation"]["size"] == [60, 90]
    saved = torch.load(tmp_path / "out" / "sem_seg_evaluation.pth", weights_only=False)
    assert saved["mIoU"] == pytest.approx(64.21750873)


def test_a_number_of_classes_that_contradicts_the_metadata_is_an_error(name):
    with pytest.raises(AssertionError, match="7"):
        SemSegEvaluator(name, num_classes=7)


def test_a_custom_function_can_load_the_labels(name):
    evaluator = SemSegEvaluator(
        name, distributed=False, sem_seg_loading_fn=lambda _, dtype: np.zeros((6, 8), dtype)
    )
    evaluator.reset()
    image = DatasetCatalog.get(name)[0]
    evaluator.process([image], [{"sem_seg": scores(np.zeros((6, 8)))}])
    assert evaluator.evaluate()["sem_seg"]["mIoU"] == 100
