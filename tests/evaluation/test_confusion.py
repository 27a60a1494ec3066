"""Matches on detections, by hand."""

import numpy as np

from d2ext.evaluation.confusion import confusion_matrix, match_detections
from detectron2.structures import BoxMode

METADATA = {"thing_classes": ["cat", "dog"], "thing_dataset_id_to_contiguous_id": {3: 0, 7: 1}}


def record(number, *objects):
    annotations = [
        {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": c, "iscrowd": crowd}
        for box, c, crowd in objects
    ]
    return {"image_id": number, "height": 100, "width": 100, "annotations": annotations}


def detection(image, box, category, score):
    x0, y0, x1, y1 = box
    bbox = [x0, y0, x1 - x0, y1 - y0]
    return {"image_id": image, "bbox": bbox, "category_id": category, "score": score}


A, B, FAR = [10, 10, 30, 30], [50, 50, 90, 90], [10, 60, 30, 80]


def test_detections_are_right_wrong_or_missed():
    records = [record(5, (A, 0, 0), (B, 1, 0), (FAR, 0, 0))]
    results = [
        detection(5, A, 3, 0.9),  # a cat found
        detection(5, B, 3, 0.8),  # a dog taken for a cat
        detection(5, [60, 0, 80, 20], 7, 0.7),  # nothing there
        detection(5, FAR, 3, 0.1),  # below the threshold: there are only three objects
    ]
    matches, threshold = match_detections(records, results, METADATA)
    assert threshold == 0.7
    assert confusion_matrix(matches, 2).tolist() == [[1, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert [m.correct for m in matches] == [True, False, False, False]
    assert matches[3].box == (10, 60, 30, 80)


def test_an_object_is_claimed_once_by_the_best_score():
    records = [record(1, (A, 0, 0), (FAR, 0, 0))]
    results = [detection(1, A, 7, 0.9), detection(1, A, 3, 0.8)]
    matches, _ = match_detections(records, results, METADATA)
    assert [(m.truth, m.found) for m in matches] == [(0, 1), (None, 0), (0, None)]


def test_detections_in_a_crowd_do_not_count():
    records = [record(1, ([0, 0, 60, 60], 0, 1), (B, 1, 0), (FAR, 0, 0))]
    results = [detection(1, [5, 5, 20, 20], 3, 0.9), detection(1, B, 7, 0.8)]
    matches, _ = match_detections(records, results, METADATA)
    assert [(m.truth, m.found) for m in matches] == [(1, 1), (0, None)]


def test_overlap_below_the_threshold_is_no_match():
    records = [record(1, (A, 0, 0))]
    matches, _ = match_detections(records, [detection(1, [20, 10, 40, 30], 3, 0.9)], METADATA)
    assert [(m.truth, m.found) for m in matches] == [(None, 0), (0, None)]


def test_every_object_and_detection_is_counted_once():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 60, (40, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(10, 40, (40, 2))], axis=1).tolist()
    records = [
        record(
            n,
            *((box, int(c), 0) for box, c in zip(boxes[n::4], rng.integers(0, 2, 10), strict=True)),
        )
        for n in range(4)
    ]
    results = [
        detection(n % 4, [v + rng.normal(0, 3) for v in box], (3, 7)[n % 2], float(rng.uniform()))
        for n, box in enumerate(boxes)
    ]
    matches, threshold = match_detections(records, results, METADATA)
    matrix = confusion_matrix(matches, 2)
    assert threshold == min(r["score"] for r in results)
    assert matrix[:2].sum() == 40
    assert matrix[:, :2].sum() == 40


def test_without_detections_every_object_is_missed():
    matches, _ = match_detections([record(1), record(2, (A, 1, 0))], [], METADATA)
    assert [(m.truth, m.found) for m in matches] == [(1, None)]


def test_objects_without_a_box_are_ignored():
    record = {"image_id": 1, "annotations": [{"category_id": 0, "bbox_3d": [0.0] * 9}]}
    assert match_detections([record], [], {})[0] == []
