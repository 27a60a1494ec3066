"""A set predictor has a seat: queries become detections without NMS, in the model and in a file."""

import pytest
import torch
from torch import Tensor, nn

from d2ext.exporters import Exporter, exporter, exporter_for, register_exporter, topk_candidates
from d2ext.exporters.check import compare
from d2ext.exporters.exported_module import build_exported_module
from d2ext.exporters.formats import load, save
from d2ext.modeling.dense_heads import LevelPredictions
from d2ext.modeling.meta_arch import Detector
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from detectron2.structures import Boxes, ImageList, Instances

CLASSES, QUERIES, KEPT = 3, 6, 8


class Patches(Backbone):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Conv2d(3, 16, 16, stride=16)

    def forward(self, images: Tensor) -> Tensor:
        return self.project(images).flatten(2).transpose(1, 2)

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {"patches": ShapeSpec(channels=16, stride=16)}

    @property
    def size_divisibility(self) -> int:
        return 16


class TinySetPredictor(Detector):
    """Queries attend to patches once; the best (query, class) pairs are the detections."""

    def __init__(self) -> None:
        numbers = [127.0, 127.0, 127.0]
        super().__init__(
            backbone=Patches(), pixel_mean=numbers, pixel_std=numbers, input_format="RGB"
        )
        self.queries = nn.Embedding(QUERIES, 16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.box, self.classes = nn.Linear(16, 4), nn.Linear(16, CLASSES)

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        patches = self.backbone(images)
        queries = self.queries.weight.expand(images.shape[0], -1, -1)
        attended = self.attention(queries, patches, patches, need_weights=False)[0]
        return self.box(attended).sigmoid(), self.classes(attended)

    def losses(self, images: ImageList, targets: list[Instances]) -> dict[str, Tensor]:
        raise NotImplementedError("not trained here")

    def detect(self, images: ImageList) -> list[Instances]:
        found = []
        relative, logits = self.raw(images.tensor)
        boxes = in_pixels(relative, images.tensor)
        for index, size in enumerate(images.image_sizes):
            scores, best = logits[index].sigmoid().flatten().topk(KEPT)
            own = Instances(size, pred_boxes=Boxes(boxes[index][best // CLASSES]), scores=scores)
            own.pred_classes = best % CLASSES
            found.append(own)
        return found


def in_pixels(relative: Tensor, images: Tensor) -> Tensor:
    """(B, Q, 4) centre and size, relative to the image -> XYXY in pixels."""
    height, width = images.shape[-2:]
    center, size = relative.split(2, dim=-1)
    scale = torch.tensor([width, height, width, height])
    return torch.cat((center - size / 2, center + size / 2), dim=-1) * scale


@pytest.fixture
def set_predictor(monkeypatch):
    """The exporter of a set predictor, which the test registers."""
    monkeypatch.setattr(exporter._EXPORTERS, "_values", dict(exporter._EXPORTERS._values))

    class SetExporter(Exporter):
        def head(self, images: Tensor) -> dict[str, list[Tensor]]:
            boxes, logits = self.model.raw(images)
            return {"boxes": [in_pixels(boxes, images)], "logits": [logits]}

        def decode(self, raw: dict[str, list[Tensor]]) -> LevelPredictions:
            return LevelPredictions(raw["boxes"], [logits.sigmoid() for logits in raw["logits"]])

        def select(self, levels: LevelPredictions) -> tuple[Tensor, Tensor, Tensor]:
            return topk_candidates(levels, KEPT)

    register_exporter(TinySetPredictor, SetExporter)

    torch.manual_seed(0)
    model = TinySetPredictor().eval()
    with torch.no_grad():  # two queries that agree: NMS would keep one of them
        model.queries.weight[1] = model.queries.weight[0]
    return exporter_for(model)


def some_images(count: int, height: int = 64, width: int = 96) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return 255 * torch.rand(count, 3, height, width, generator=generator)


@torch.no_grad()
def test_overlapping_queries_stay(set_predictor):
    module = build_exported_module(set_predictor, "inside", "inside", for_onnx=False)
    boxes, scores, classes = module(some_images(2))
    assert boxes.shape == (2, KEPT, 4)
    for image, expected in enumerate(set_predictor.detect(some_images(2))):
        assert classes[image].tolist() == expected.pred_classes.tolist()
        torch.testing.assert_close(boxes[image], expected.pred_boxes.tensor)
        torch.testing.assert_close(scores[image], expected.scores)
        assert len(boxes[image].unique(dim=0)) < KEPT


@pytest.mark.parametrize("nms", ["inside", "none"])
def test_a_traced_file_gives_what_the_model_gives(set_predictor, nms, tmp_path):
    module = build_exported_module(set_predictor, nms, "inside", for_onnx=False)
    save(module, some_images(2), True, {}, "torchscript", tmp_path / "model.pt")
    for difference in compare(
        load(tmp_path / "model.pt", "torchscript"), module, [some_images(1), some_images(3)]
    ):
        assert not difference.fault


@pytest.mark.slow
def test_an_onnx_file_has_no_nms_in_it(set_predictor, tmp_path):
    import onnx

    module = build_exported_module(set_predictor, "inside", "inside", for_onnx=True)
    save(module, some_images(2), False, {}, "onnx", tmp_path / "model.onnx")
    run = load(tmp_path / "model.onnx", "onnx")
    assert not [d for d in compare(run, module, [some_images(1), some_images(3)]) if d.fault]
    kinds = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert "NonMaxSuppression" not in kinds
