"""A dense head of a project: registered, configured, trained and exported without an edit here."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2ext.exporters import exporter_for
from d2ext.exporters.check import compare
from d2ext.exporters.exported_module import build_exported_module
from d2ext.exporters.formats import load, save
from d2ext.modeling.dense_heads import DENSE_HEAD_REGISTRY, DenseHead, LevelPredictions
from d2ext.modeling.dense_heads.dense_head import cell_centers, flatten_cells, head_options
from d2ext.modeling.required_annotations import required_annotations
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.structures import Instances
from tests.helpers.detectors import some_images
from tests.helpers.models import some_input, tiny_config

SIDE = 24.0  # pixels of the boxes that the head starts from


@dataclass
class SquarePredictions:
    locations: list[Tensor]
    logits: list[Tensor]
    sides: list[Tensor]


def loss(predictions: SquarePredictions, instances: list[Instances]) -> dict[str, Tensor]:
    """Compute toy losses: the best cells score the number of boxes, and sides stay as they are."""
    counts = torch.tensor([float(len(image)) for image in instances])
    best = torch.stack([level.sigmoid().amax((1, 2)) for level in predictions.logits]).sum(0)
    return {
        "loss_count": F.mse_loss(best, counts),
        "loss_side": torch.cat(predictions.sides, 1).square().mean(),
    }


class SquareHead(DenseHead):
    """Squares around cells."""

    @configurable
    def __init__(
        self,
        *,
        input_shapes: dict[str, ShapeSpec],
        in_features: list[str],
        num_classes: int,
        postprocess: Any,
    ) -> None:
        super().__init__()
        self.in_features, self.num_classes = in_features, num_classes
        self.strides = [int(input_shapes[name].stride or 0) for name in in_features]
        width = int(input_shapes[in_features[0]].channels or 0)
        self.predictor = nn.Conv2d(width, num_classes + 1, 1)
        self.criterion, self.postprocess = loss, postprocess

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shapes: dict[str, ShapeSpec]) -> dict[str, Any]:
        return head_options(cfg, cfg.MODEL.SQUARE_HEAD, input_shapes)

    def forward(self, features: dict[str, Tensor]) -> SquarePredictions:
        levels = [features[name] for name in self.in_features]
        found = [flatten_cells(self.predictor(level), self.num_classes + 1) for level in levels]
        return SquarePredictions(
            [cell_centers(*pair) for pair in zip(levels, self.strides, strict=True)],
            [level[..., :-1] for level in found],
            [level[..., -1] for level in found],
        )

    def candidates(self, predictions: SquarePredictions, index: int) -> Iterator[Any]:
        decoded = self.decode_dense(**vars(predictions))
        for boxes, scores in zip(decoded.boxes, decoded.scores, strict=True):
            cell, label = scores[index].nonzero(as_tuple=True)
            best, order = self.postprocess.topk(scores[index][cell, label])
            yield boxes[index][cell[order]], best, label[order]

    def decode_dense(
        self, locations: list[Tensor], logits: list[Tensor], sides: list[Tensor]
    ) -> LevelPredictions:
        boxes = []
        for points, side in zip(locations, sides, strict=True):
            half = (SIDE * side.exp() / 2)[..., None]
            boxes.append(torch.cat((points - half, points + half), dim=-1))
        scores = [level.sigmoid() for level in logits]
        threshold = self.postprocess.score_thresh
        return LevelPredictions(boxes, [torch.where(s > threshold, s, 0.0) for s in scores])


@pytest.fixture
def cfg(monkeypatch) -> CfgNode:
    monkeypatch.setattr(DENSE_HEAD_REGISTRY, "_obj_map", dict(DENSE_HEAD_REGISTRY._obj_map))
    DENSE_HEAD_REGISTRY.register(SquareHead)
    cfg = tiny_config()
    cfg.MODEL.SQUARE_HEAD = CfgNode()
    cfg.MODEL.SQUARE_HEAD.IN_FEATURES, cfg.MODEL.SQUARE_HEAD.NUM_CLASSES = ["p3", "p4"], 3
    cfg.MODEL.SQUARE_HEAD.SCORE_THRESH_TEST, cfg.MODEL.SQUARE_HEAD.NMS_THRESH_TEST = 0.5, 0.6
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DENSE_HEAD.NAME = "DenseDetector", "SquareHead"
    cfg.MODEL.BACKBONE.NAME = "ExportPyramid"
    cfg.MODEL.PIXEL_STD = [58.0, 58.0, 58.0]
    cfg.TEST.DETECTIONS_PER_IMAGE = 20
    torch.manual_seed(0)
    return cfg


def test_it_learns_from_boxes(cfg):
    assert required_annotations(cfg) == {"boxes": "MODEL.META_ARCHITECTURE DenseDetector"}
    model = build_model(cfg)
    sum(model([some_input(64, 96, 3)]).values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.head.parameters())


def test_a_traced_file_gives_what_the_model_gives(cfg, tmp_path):
    exporter = exporter_for(build_model(cfg).eval())
    module = build_exported_module(exporter, "inside", "inside", for_onnx=False)
    save(module, some_images(2, 256, 320), True, {}, "torchscript", tmp_path / "model.pt")
    run = load(tmp_path / "model.pt", "torchscript")
    for difference in compare(run, module, [some_images(1, 256, 256), some_images(3, 320, 288)]):
        assert not difference.fault
        assert ": 0 detections" not in difference.text


@torch.no_grad()
def test_raw_outputs_have_the_names_of_its_predictions(cfg):
    module = build_exported_module(exporter_for(build_model(cfg).eval()), "none", "none", False)
    module(some_images(1, 64, 64))
    assert module.output_names == ("locations", "logits", "sides")
