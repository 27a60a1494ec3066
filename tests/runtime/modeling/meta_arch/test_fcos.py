"""FCOS: outputs match Detectron2 for deterministic weights and images."""

import math

import pytest
import torch
from torch.nn import functional as F

import d2ext  # noqa: F401
from detectron2.layers import ShapeSpec
from detectron2.modeling import FCOS, Backbone
from detectron2.modeling.meta_arch.fcos import FCOSHead
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from tests.helpers.weights import fill
from tests.helpers.weights import image as picture

STRIDES = {"p3": 8, "p4": 16, "p5": 32}
# What Detectron2 gives.
EXPECTED_LOSSES = {"loss_fcos_cls": 1.218913, "loss_fcos_loc": 0.062413, "loss_fcos_ctr": 0.041645}
EXPECTED_GRADIENT = 50.975452  # of the convolution, absolute values summed
EXPECTED_COUNTS = [67, 55]
EXPECTED_BOX = [280.0, 209.733139, 320.0, 230.260696]
EXPECTED_SCORES = [0.829261, 0.814850, 0.789865]
EXPECTED_SUM = 43788.352  # of all boxes of the first image


class Pooled(Backbone):
    """One convolution, pooled to three levels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 32, 8, stride=8)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        p3 = self.conv(x)
        return {"p3": p3, "p4": F.max_pool2d(p3, 2), "p5": F.max_pool2d(p3, 4)}

    @property
    def size_divisibility(self) -> int:
        return 32

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {name: ShapeSpec(channels=32, stride=stride) for name, stride in STRIDES.items()}


@pytest.fixture
def model() -> FCOS:
    backbone = Pooled()
    shapes = list(backbone.output_shape().values())
    head = FCOSHead(input_shape=shapes, conv_dims=[32, 32], num_classes=3, norm="GN")
    model = FCOS(
        backbone=backbone,
        head=head,
        num_classes=3,
        pixel_mean=[103.0, 116.0, 123.0],
        pixel_std=[57.0, 57.0, 57.0],
    )
    fill(model)
    return model


def image(height: int, width: int, boxes: list[list[float]], classes: list[int]) -> dict:
    truth = Instances((height, width))
    truth.gt_boxes = Boxes(torch.tensor(boxes).float().reshape(-1, 4))
    truth.gt_classes = torch.tensor(classes, dtype=torch.int64)
    return {"image": picture(7, height, width), "instances": truth}


@pytest.fixture
def batch() -> list[dict]:
    boxes = [[10.0, 10, 60, 70], [30, 20, 50, 40], [5, 5, 150, 110]]
    return [image(120, 160, boxes, [0, 1, 2]), image(128, 128, [], [])]


def anchors_of(model: FCOS) -> list[Boxes]:
    return model.anchor_generator(list(model.backbone(torch.zeros(1, 3, 128, 160)).values()))


def test_the_state_dict_has_the_published_names(model: FCOS):
    names = {name.rsplit(".", 1)[0] for name in model.state_dict() if name.startswith("head.")}
    towers = {f"head.{kind}_subnet.{i}" for kind in ("cls", "bbox") for i in (0, 1, 3, 4)}
    assert names == towers | {"head.cls_score", "head.bbox_pred", "head.ctrness"}


def test_anchors_are_squares_of_the_stride(model: FCOS):
    first = [level.tensor[0].tolist() for level in anchors_of(model)]
    assert first == [[0, 0, stride, stride] for stride in (8, 16, 32)]


def test_center_sampling_assigns_positions_to_the_smallest_box_of_their_level(model, batch):
    labels, boxes = model.label_anchors(anchors_of(model), [x["instances"] for x in batch])
    assert labels[0].bincount().tolist() == [4, 4, 9, 403]
    assert labels[1].bincount().tolist() == [0, 0, 0, 420]
    assert boxes[0].sum(0).tolist() == [4235, 4195, 25970, 29640]
    assert not boxes[1].any()


def test_a_large_sampling_radius_makes_the_whole_box_foreground(model, batch):
    model.center_sampling_radius = 100
    quality = model._match_anchors(batch[0]["instances"].gt_boxes, anchors_of(model))
    assert (quality > 0).sum(1).tolist() == [6 * 8, 4, 55]
    assert quality.max(1).values.tolist() == pytest.approx([1e8 - 3000, 1e8 - 400, 1e8 - 15225])


def test_centreness_is_one_at_the_centre(model: FCOS):
    cells = [Boxes(torch.tensor([[8.0, 8, 16, 16], [0, 8, 8, 16]]))]
    box = torch.tensor([[2.0, 2, 22, 22]]).repeat(2, 1)
    first, second = model.compute_ctrness_targets(cells, [box])[0].tolist()
    assert (first, second) == pytest.approx((1.0, math.sqrt(2 / 18)))


def test_losses_and_gradients_match_detectron2(model: FCOS, batch: list[dict]):
    model.train()
    with EventStorage() as storage:
        losses = model(batch)
        sum(losses.values()).backward()
        assert storage.latest()["num_pos_anchors"][0] == 8.5
    found = {name: loss.item() for name, loss in losses.items()}
    assert found == pytest.approx(EXPECTED_LOSSES, rel=1e-4)
    assert model.backbone.conv.weight.grad.abs().sum().item() == pytest.approx(
        EXPECTED_GRADIENT, rel=1e-3
    )


def test_an_empty_image_has_only_a_class_loss(model: FCOS, batch: list[dict]):
    with EventStorage():
        losses = model.train()(batch[1:])
    assert losses["loss_fcos_loc"] == losses["loss_fcos_ctr"] == 0
    assert losses["loss_fcos_cls"] > 0


@torch.no_grad()
def test_detections_match_detectron2(model: FCOS, batch: list[dict]):
    model.eval()
    inputs = [{"image": batch[0]["image"], "height": 240, "width": 320}, batch[1]]
    first, second = (x["instances"] for x in model(inputs))
    assert (first.image_size, second.image_size) == ((240, 320), (128, 128))
    assert [len(first), len(second)] == EXPECTED_COUNTS
    torch.testing.assert_close(
        first.pred_boxes.tensor[0], torch.tensor(EXPECTED_BOX), atol=1e-3, rtol=1e-4
    )
    assert first.scores[:3].tolist() == pytest.approx(EXPECTED_SCORES, abs=1e-4)
    assert first.pred_boxes.tensor.sum().item() == pytest.approx(EXPECTED_SUM, rel=1e-4)
