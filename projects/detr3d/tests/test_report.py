"""An evaluation leaves a submission and details, which the page of a run shows."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from d2ext.pages.page import Page
from d2ext.projects.detr3d.data.classes import CLASSES
from d2ext.projects.detr3d.evaluation.evaluator import DETAILS, SUBMISSION, NuScenesEvaluator
from d2ext.projects.detr3d.evaluation.report import add_metrics
from d2ext.projects.detr3d.evaluation.submission import read_submission


@pytest.fixture
def evaluated(items, tmp_path):
    """Metrics of detections that are the ground truth, and the folder of the files."""
    evaluator = NuScenesEvaluator(items, tmp_path)
    evaluator.reset()
    for item in items:
        known = item["labels"] >= 0
        boxes = np.nan_to_num(item["boxes_3d"][known])
        found = SimpleNamespace(
            boxes=torch.from_numpy(boxes),
            scores=torch.linspace(0.9, 0.5, len(boxes)),
            classes=torch.from_numpy(item["labels"][known]),
        )
        evaluator.process([item], [{"boxes_3d": found}])
    return evaluator.evaluate()["nuscenes"], tmp_path


def test_ground_truth_as_detections_has_nearly_full_precision(evaluated):
    metrics, _ = evaluated
    assert metrics["mAP-2m"] > 70  # boxes without points are false positives
    assert metrics["mATE"] < 1e-6


def test_the_submission_that_is_written_is_valid(evaluated, items):
    _, folder = evaluated
    boxes = read_submission(folder / SUBMISSION, [item["image_id"] for item in items])
    assert len(boxes) > 100


def test_the_page_shows_precision_and_errors_of_every_class(evaluated):
    metrics, folder = evaluated
    page = Page("run")
    add_metrics(page, "mini", folder / DETAILS)
    page.write(folder / "page.html")
    html = (folder / "page.html").read_text(encoding="utf-8")
    assert f"NDS {metrics['NDS']:.1f}, mAP {metrics['mAP']:.1f}" in html
    assert all(html.count(f"<td>{name}</td>") == 2 for name in CLASSES)
    assert html.count("data:image/svg+xml") == 8  # four distances, five classes per chart
    assert "<th>AVE, m/s</th>" in html
    cone = html[html.rindex("<td>traffic_cone</td>") :]
    assert cone[: cone.index("</tr>")].count("<td>-</td>") == 3  # has no yaw, speed, attribute


def test_details_are_json_that_other_programs_read(evaluated):
    _, folder = evaluated
    text = (folder / DETAILS).read_text(encoding="utf-8")
    assert "NaN" not in text
    assert json.loads(text)["label_tp_errors"]["barrier"]["vel_err"] is None
