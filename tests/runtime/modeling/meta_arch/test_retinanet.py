"""RetinaNet: built from a config, trained one step, decoded."""

import math

import pytest
import torch

import d2ext  # noqa: F401
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import META_ARCH_REGISTRY, RetinaNet, build_model
from detectron2.modeling.meta_arch.dense_detector import permute_to_N_HWA_K
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage


def config() -> CfgNode:
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32], [64], [128], [256]]
    cfg.MODEL.RETINANET.NUM_CLASSES = 3
    cfg.MODEL.RETINANET.NUM_CONVS = 1
    return cfg


@pytest.fixture(scope="module")
def model() -> RetinaNet:
    torch.manual_seed(0)
    return build_model(config())


def image(with_truth: bool) -> dict:
    truth = Instances((64, 96))
    truth.gt_boxes = Boxes(torch.tensor([[8.0, 8, 40, 40]] if with_truth else []).reshape(-1, 4))
    truth.gt_classes = torch.full((len(truth.gt_boxes),), 2)
    return {"image": torch.rand(3, 64, 96) * 255, "instances": truth}


def test_predictions_are_permuted_to_rows_of_anchors():
    grid = torch.arange(12).reshape(1, 6, 1, 2)  # two anchors of three numbers, two positions
    assert permute_to_N_HWA_K(grid, 3)[0].tolist() == [
        [0, 2, 4], [6, 8, 10], [1, 3, 5], [7, 9, 11],
    ]  # fmt: skip


def test_the_head_starts_with_the_prior_probability(model: RetinaNet):
    assert model.head.cls_score.bias[0].item() == pytest.approx(-math.log(99))
    names = {name.split(".")[1] for name, _ in model.named_parameters() if name.startswith("head")}
    assert names == {"cls_subnet", "bbox_subnet", "cls_score", "bbox_pred"}


def test_the_state_dict_has_no_anchors_and_no_pixel_statistics(model: RetinaNet):
    assert {name.split(".")[0] for name in model.state_dict()} == {"backbone", "head"}


def test_anchors_are_labelled_by_iou(model: RetinaNet):
    anchors = [Boxes(torch.tensor([[8.0, 8, 40, 40], [8, 8, 40, 22], [50, 50, 60, 60]]))]
    labels, boxes = model.label_anchors(anchors, [image(True)["instances"]])
    assert labels[0].tolist() == [2, -1, 3]  # its class, ignored, background
    assert boxes[0][0].tolist() == [8, 8, 40, 40]


def test_an_image_without_ground_truth_is_all_background(model: RetinaNet):
    anchors = [Boxes(torch.tensor([[0.0, 0, 9, 9]]))]
    labels, boxes = model.label_anchors(anchors, [image(False)["instances"]])
    assert labels[0].tolist() == [3]
    assert boxes[0].tolist() == [[0, 0, 0, 0]]


def test_training_returns_two_losses_with_gradients_for_all_parameters(model: RetinaNet):
    model.train()
    with EventStorage() as storage:
        losses = model([image(True), image(False)])
        sum(losses.values()).backward()
        assert storage.latest()["num_pos_anchors"][0] > 0
    assert sorted(losses) == ["loss_box_reg", "loss_cls"]
    assert all(math.isfinite(loss.item()) for loss in losses.values())
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_losses_are_divided_by_a_running_mean_of_the_foreground():
    model = build_model(config()).train()
    anchors = [Boxes(torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]]))]
    with EventStorage():
        losses = model.losses(
            anchors,
            [torch.zeros(1, 2, 3)],
            [torch.tensor([0, 3])],
            [torch.full((1, 2, 4), 2.0)],
            [anchors[0].tensor],
        )
    normalizer = 0.9 * 100 + 0.1 * 1
    focal = math.log(2) * 0.25  # at probability one half: gamma is 2
    assert losses["loss_cls"].item() == pytest.approx((0.25 + 5 * 0.75) * focal / normalizer)
    assert losses["loss_box_reg"].item() == pytest.approx((8 - 4 * 0.05) / normalizer)


def test_inference_returns_boxes_at_the_requested_size(model: RetinaNet):
    model.eval()
    with torch.no_grad():
        (out,) = model([{"image": torch.rand(3, 64, 96), "height": 128, "width": 192}])
    assert out["instances"].image_size == (128, 192)


def test_detections_are_suppressed_within_a_class_and_limited(model: RetinaNet):
    anchors = [Boxes(torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]]))]
    scores = torch.tensor([[0.9, 0.0, 0.3], [0.8, 0.6, 0.0], [0.04, 0.0, 0.7]])
    found = model.inference_single_image(anchors, [scores], [torch.zeros(3, 4)], (64, 64))
    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.6, 0.3])
    assert found.pred_classes.tolist() == [0, 2, 1, 2]


def test_a_registered_model_is_built_by_name():
    @META_ARCH_REGISTRY.register()
    class ModelForATest(torch.nn.Linear):
        def __init__(self, cfg: CfgNode) -> None:
            super().__init__(2, 1)

    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "ModelForATest"
    assert isinstance(build_model(cfg), ModelForATest)


def test_a_visualisation_shows_ground_truth_above_predictions(model: RetinaNet):
    found = Instances((64, 96), pred_boxes=Boxes(torch.tensor([[8.0, 8, 40, 40]])))
    with EventStorage() as storage:
        model.visualize_training([image(True)], [found])
    ((name, picture, iteration),) = storage._vis_data
    assert name.startswith("Top: GT")
    assert picture.shape == (3, 2 * 64, 96)
    assert iteration == 0
