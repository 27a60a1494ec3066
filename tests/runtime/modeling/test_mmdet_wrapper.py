"""`detectron2.modeling.mmdet_wrapper` around modules with MMDetection's interface."""

import numpy as np
import pytest
import torch
from torch import nn

import d2ext  # noqa: F401
from detectron2.layers import ShapeSpec
from detectron2.modeling.mmdet_wrapper import MMDetBackbone, MMDetDetector
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage


class Halves(nn.Module):
    """A backbone: the image at strides 1 and 2."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return x, x[..., ::2, ::2]

    def init_weights(self, pretrained: str | None = None) -> None:
        self.initialised = True


class Negative(nn.Module):
    def forward(self, levels: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
        return [-level for level in levels]

    def init_weights(self) -> None:
        pass


SHAPES = [ShapeSpec(channels=3, stride=1), ShapeSpec(channels=3, stride=2)]


def test_the_outputs_of_a_backbone_and_its_neck_are_named():
    model = MMDetBackbone(Halves(), Negative(), output_shapes=SHAPES, output_names=["a", "b"])
    found = model(torch.ones(1, 3, 4, 6))
    assert {name: tuple(level.shape) for name, level in found.items()} == {
        "a": (1, 3, 4, 6),
        "b": (1, 3, 2, 3),
    }
    assert found["a"].max() == -1
    assert model.output_shape()["b"].stride == 2
    assert model.backbone.initialised


def test_a_backbone_with_another_number_of_outputs_is_an_error():
    model = MMDetBackbone(Halves(), output_shapes=SHAPES[:1])
    assert list(model.output_shape()) == ["out0"]
    with pytest.raises((ValueError, AssertionError)):
        model(torch.ones(1, 3, 4, 6))


class OneBox(nn.Module):
    """A detector of two classes: one box of the second class on every image."""

    def init_weights(self) -> None:
        self.initialised = True

    def forward_train(self, images, metas, gt_bboxes, gt_labels):
        sums = [boxes.sum() for boxes in gt_bboxes]
        return {
            "loss_a": [sums[0], images.mean()],
            "loss_b": gt_labels[0].sum() * 1.0,
            "acc": sums[0],
        }

    def simple_test(self, images, metas, rescale):
        assert metas[0]["pad_shape"] == (32, 64, 3)
        assert rescale
        assert np.asarray(metas[0]["scale_factor"]).tolist() == [0.5] * 4
        boxes = [np.zeros((0, 5), np.float32), np.array([[1, 2, 5, 8, 0.75]], np.float32)]
        return [boxes for _ in metas]


def detector() -> MMDetDetector:
    return MMDetDetector(OneBox(), pixel_mean=(1.0, 1.0, 1.0), pixel_std=(2.0, 2.0, 2.0))


def test_detections_are_instances_at_the_output_size():
    image = {"image": torch.ones(3, 20, 40), "height": 40, "width": 80}
    (found,) = detector().eval()([image])
    instances = found["instances"]
    assert instances.image_size == (40, 80)
    assert instances.pred_boxes.tensor.tolist() == [[1, 2, 5, 8]]
    assert instances.pred_classes.tolist() == [1]
    assert instances.scores.tolist() == [0.75]


def test_losses_of_levels_are_summed_and_other_outputs_logged():
    truth = Instances((20, 40))
    truth.gt_boxes, truth.gt_classes = Boxes(torch.tensor([[0.0, 0, 2, 2]])), torch.tensor([3])
    with EventStorage() as storage:
        losses = detector()([{"image": torch.ones(3, 20, 40), "instances": truth}])
    assert {name: value.item() for name, value in losses.items()} == {"loss_a": 4.0, "loss_b": 3.0}
    assert storage.latest()["acc"][0] == 4.0
