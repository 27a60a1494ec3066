import pytest
import torch

from d2ext.exporters.check import compare_detections, compare_tensors
from detectron2.structures import Boxes, Instances

BOX = [10.0, 10.0, 50.0, 40.0]


def found(*boxes, score=0.9, label=1):
    instances = Instances((64, 64))
    instances.pred_boxes = Boxes(torch.tensor(boxes).view(-1, 4))
    instances.scores = torch.full((len(boxes),), score)
    instances.pred_classes = torch.full((len(boxes),), label)
    return [instances]


def given(box, score=0.9, label=1):
    padding = torch.zeros(4), torch.tensor(0.0), torch.tensor(-1)
    first = torch.tensor(box), torch.tensor(score), torch.tensor(label)
    return tuple(torch.stack(pair)[None] for pair in zip(first, padding, strict=True))


def test_the_largest_differences_are_named():
    difference = compare_detections(given([10.01, 10.0, 50.0, 40.0], 0.90005), found(BOX))
    assert not difference.fault
    assert difference.text == ("1 detections, boxes within 1.0e-02 pixels, scores within 5.0e-05")


@pytest.mark.parametrize(
    "other", [given([10.1, 10.0, 50.0, 40.0]), given(BOX, score=0.91), given(BOX, label=2)]
)
def test_a_box_score_or_class_beyond_the_tolerance_is_a_fault(other):
    assert "1 of 1" in compare_detections(other, found(BOX)).fault.replace("2 of 1", "1 of 1")


def test_a_detection_too_many_is_a_fault():
    assert compare_detections(given(BOX), found()).fault


def test_tensors_are_compared_with_their_size_in_view():
    large = torch.tensor([1000.0])
    assert not compare_tensors(["a"], [large + 0.5], [large]).fault
    assert "a differs by 2" in compare_tensors(["a"], [large + 2], [large]).fault
    assert "a is (2,), not (1,)" in compare_tensors(["a"], [large.repeat(2)], [large]).fault
    assert compare_tensors(["a"], [large * torch.nan], [large]).fault
