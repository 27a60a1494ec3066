import numpy as np
import pytest
import torch

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_pascal_voc
from detectron2.evaluation import PascalVOCDetectionEvaluator
from detectron2.evaluation.pascal_voc_evaluation import voc_ap
from detectron2.structures import Boxes, Instances

NAMES = ["a", "b", "c"]
OBJECT = (
    "<object><name>{}</name><pose>p</pose><truncated>0</truncated><difficult>{}</difficult>"
    "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


@pytest.fixture
def truth(tmp_path):
    """Return the (left, top, right, bottom, class) of objects in 15 images, some difficult."""
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    rng = np.random.default_rng(0)
    images = []
    for index in range(15):
        images.append([])
        text = ""
        for _ in range(int(rng.integers(0, 6))):
            (x, y), (w, h) = rng.integers(1, 150, 2).tolist(), rng.integers(10, 100, 2).tolist()
            label, difficult = int(rng.integers(0, 3)), int(rng.random() < 0.2)
            images[-1].append((x, y, x + w, y + h, label))
            text += OBJECT.format(NAMES[label], difficult, x, y, x + w, y + h)
        (tmp_path / f"Annotations/{index}.xml").write_text(f"<annotation>{text}</annotation>")
    (tmp_path / "ImageSets/Main/test.txt").write_text("".join(f"{i}\n" for i in range(15)))
    return str(tmp_path), images


@pytest.fixture
def evaluate(truth):
    folder, images = truth
    names = []

    def evaluate(year, noise, repeats):
        names.append(f"voc_eval_test_{year}")
        register_pascal_voc(names[-1], folder, "test", year, NAMES)
        evaluator = PascalVOCDetectionEvaluator(names[-1])
        evaluator.reset()
        rng = np.random.default_rng(1)
        for index, objects in enumerate(images):
            rows = []
            for *corners, label in objects:
                for _ in range(repeats):
                    box = [corner + noise * rng.normal() for corner in corners]
                    score = (len(rows) + 13 * index) * 617 % 1009 / 1009
                    rows.append((box, score, label if rng.random() < 1 - 0.04 * noise else 0))
            instances = Instances((300, 300))
            boxes = torch.tensor([box for box, *_ in rows]).reshape(-1, 4)
            instances.pred_boxes = Boxes(boxes)
            instances.scores = torch.tensor([score for _, score, _ in rows])
            instances.pred_classes = torch.tensor([label for *_, label in rows]).long()
            evaluator.process([{"image_id": str(index)}], [{"instances": instances}])
        return evaluator.evaluate()["bbox"]

    yield evaluate
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.mark.parametrize("year", [2007, 2012])
def test_ground_truth_as_detections_scores_100(evaluate, year):
    # Boxes of VOC include their first pixel, the evaluator adds it: a corner is off by one.
    assert evaluate(year, noise=0, repeats=1)["AP50"] == pytest.approx(100)


@pytest.mark.parametrize(
    ("year", "expected"),
    [
        (2007, [35.51777368, 80.03661366, 33.28373185]),
        (2012, [35.67355333, 80.89117654, 33.53833349]),
    ],
)
def test_metrics_of_noisy_detections_match_detectron2(evaluate, year, expected):
    found = evaluate(year, noise=4.0, repeats=2)
    assert list(found) == ["AP", "AP50", "AP75"]
    assert list(found.values()) == pytest.approx(expected)


def test_average_precision_of_a_curve_by_hand():
    recall, precision = np.array([0.25, 0.5, 0.5, 0.75]), np.array([1.0, 1.0, 2 / 3, 0.75])
    assert voc_ap(recall, precision) == pytest.approx(0.5 + 0.25 * 0.75)
    assert voc_ap(recall, precision, use_07_metric=True) == pytest.approx((6 + 2 * 0.75) / 11)
