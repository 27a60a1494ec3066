import contextlib
import copy
import io

import pytest
from pycocotools.coco import COCO

import d2ext  # noqa: F401
from detectron2.evaluation.fast_eval_api import COCOeval_opt

BOX = [10.0, 10.0, 20.0, 20.0]
ANNOTATION = {"id": 1, "image_id": 5, "category_id": 3, "bbox": BOX, "area": 400.0, "iscrowd": 0}
CONTENT = {
    "images": [{"id": 5, "width": 80, "height": 60}],
    "categories": [{"id": 3, "name": "brot"}],
    "annotations": [ANNOTATION],
}
FOUND = [{"image_id": 5, "category_id": 3, "bbox": BOX, "score": 0.9}]


def evaluated(content, kind="bbox", **parameters):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(content)
        truth.createIndex()
        evaluation = COCOeval_opt(truth, truth.loadRes(copy.deepcopy(FOUND)), kind)
        for name, value in parameters.items():
            setattr(evaluation.params, name, value)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def test_a_perfect_detection_has_full_precision():
    assert evaluated(CONTENT).stats[0] == pytest.approx(1)


def test_summary_without_area_ranges_is_minus_one():
    evaluation = evaluated(CONTENT, areaRng=[], areaRngLbl=[])
    assert evaluation.eval["precision"].size == 0
    assert evaluation.stats[0] == -1


@pytest.mark.parametrize("field", ["area", "iscrowd"])
def test_an_annotation_without_a_field_is_an_error_as_in_pycocotools(field):
    annotation = {name: value for name, value in ANNOTATION.items() if name != field}
    with pytest.raises(KeyError, match=field):
        evaluated({**CONTENT, "annotations": [annotation]})
