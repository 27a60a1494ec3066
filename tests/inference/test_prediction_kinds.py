from copy import deepcopy

import numpy as np
import pytest
import torch

from d2ext.errors import ConfigError
from d2ext.inference import PredictionKind, prediction_kinds, register_prediction_kind
from d2ext.inference.prediction_kinds import prediction_kind
from detectron2.structures import Boxes, Instances


class Depth(PredictionKind):
    """Distances of pixels, in metres."""

    def select(self, output, confidence):
        return output.numpy()

    def draw(self, image, found, names):
        return np.where(found[..., None] < 1, 0, image)

    def as_json(self, found, names):
        return [{"nearest": float(found.min())}]


@pytest.fixture
def _depth_is_registered(monkeypatch):
    monkeypatch.setattr(prediction_kinds, "_KINDS", deepcopy(prediction_kinds._KINDS))
    register_prediction_kind("depth", Depth())


def instances(*scores):
    found = Instances((20, 30))
    found.pred_boxes = Boxes(torch.tensor([[2.0, 3.0, 10.0, 8.0]] * len(scores)))
    found.scores = torch.tensor(scores)
    found.pred_classes = torch.zeros(len(scores), dtype=torch.long)
    return found


def test_panoptic_segments_are_regions_with_the_classes_of_pixels():
    ids = torch.zeros(20, 30, dtype=torch.int32)
    ids[:5], ids[10:, 4:] = 3, 7
    segments = [{"id": 3, "category_id": 2}, {"id": 7, "category_id": 0}]
    key, kind = prediction_kind({"panoptic_seg": (ids, segments)})
    assert (key, kind.labels_pixels) == ("panoptic_seg", True)
    found = kind.select((ids, segments), 0.5)
    assert found.pred_classes.tolist() == [2, 0]
    assert found.pred_boxes.tensor.tolist() == [[0, 0, 30, 5], [4, 10, 30, 20]]
    names = [item["class_name"] for item in kind.as_json(found, ["sky", "cat", "grass"])]
    assert names == ["grass", "sky"]
    nothing = kind.select((ids * 0, []), 0.5)
    assert kind.as_json(nothing, []) == []
    assert kind.draw(np.zeros((20, 30, 3), np.uint8), nothing, []).shape[2] == 3


def test_instances_below_the_confidence_are_dropped():
    _, kind = prediction_kind({"instances": instances(0.9, 0.2)})
    found = kind.select(instances(0.9, 0.2), 0.5)
    assert [item["score"] for item in kind.as_json(found, ["cat"])] == [0.9]


def test_a_model_of_instances_and_pixels_is_shown_by_its_instances():
    output = {"sem_seg": torch.zeros(2, 20, 30), "instances": instances(0.9), "other": None}
    assert prediction_kind(output)[0] == "instances"


def test_pixels_are_shown_as_one_region_per_class():
    logits = torch.zeros(2, 20, 30)
    logits[1, :5] = 9.0
    _, kind = prediction_kind({"sem_seg": logits})
    found = kind.as_json(kind.select(logits, 0.6), ["road", "sky"])
    assert [item["class_name"] for item in found] == ["sky"]
    assert found[0]["box"] == [0, 0, 30, 5]


@pytest.mark.usefixtures("_depth_is_registered")
def test_a_kind_of_a_project_comes_before_those_of_d2ext():
    depth = torch.full((20, 30), 2.0)
    depth[0, 0] = 0.5
    key, kind = prediction_kind({"instances": instances(0.9), "depth": depth})
    assert key == "depth"
    found = kind.select(depth, 0.5)
    picture = kind.draw(np.full((20, 30, 3), 7, dtype=np.uint8), found, [])
    assert (picture[0, 0].tolist(), picture[1, 1].tolist()) == ([0, 0, 0], [7, 7, 7])
    assert kind.as_json(found, []) == [{"nearest": 0.5}]


def test_an_output_without_a_kind_is_refused_with_the_known_ones():
    with pytest.raises(
        ConfigError, match=r"returns boxes_in_space, .*known are panoptic_seg, sem_seg, instances"
    ):
        prediction_kind({"boxes_in_space": None})
