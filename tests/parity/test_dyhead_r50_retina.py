"""The dynamic head under Detectron2's RetinaNet on a ResNet-50."""

import pytest
import torch
from parity.cases import Case, record
from torch import nn

import d2ext.modeling  # noqa: F401
from d2ext.config import get_cfg
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes
from detectron2.utils.events import EventStorage

LEVELS = ("p3", "p4", "p5", "p6", "p7")


@pytest.fixture(scope="module")
def case() -> Case:
    return Case("dyhead_r50_retina")


@pytest.fixture(scope="module")
def model(case: Case) -> nn.Module:
    model = build_model(_config(case.config))
    case.load(model)
    return model


@pytest.fixture(scope="module")
def outputs(case: Case, model: nn.Module) -> dict:
    """What the parts of the model gave in evaluation, by name."""
    outputs = record(
        {
            "backbone": model.backbone.backbone.bottom_up,
            "fpn": model.backbone.backbone,
            "dyhead0": model.backbone.blocks[0],
            "dyhead2": model.backbone.blocks[2],
            "dyhead": model.backbone,
            "head": model.head,
            "anchors": model.anchor_generator,
            "model": model,
        }
    )
    with torch.no_grad():
        model.eval()(case.batch())
    return dict(outputs)


def test_features_are_the_published_ones(case: Case, outputs: dict):
    for name in ("backbone", "fpn", "dyhead"):
        for level, feature in outputs[name].items():
            case.check(f"{name}.{level}", feature)
    for name in ("dyhead0", "dyhead2"):
        for level, feature in zip(LEVELS, outputs[name], strict=True):
            case.check(f"{name}.{level}", feature)


def test_head_outputs_and_anchors_are_the_published_ones(case: Case, outputs: dict):
    for level, logits, deltas in zip(LEVELS, *outputs["head"], strict=True):
        case.check(f"head.logits.{level}", logits)
        case.check(f"head.deltas.{level}", deltas)
    case.check("anchors", Boxes.cat(outputs["anchors"]).tensor)


def test_detections_are_the_published_ones(case: Case, outputs: dict):
    case.check_detections("det0", outputs["model"][0]["instances"])


def test_detections_with_other_settings_are_the_published_ones(case: Case, model: nn.Module):
    settings = case.facts["alternative_postprocessing"]
    other = build_model(_config(case.config)).eval()
    other.load_state_dict(model.state_dict())
    other.test_score_thresh = settings["score_threshold"]
    other.test_topk_candidates = settings["pre_nms_topk"]
    other.test_nms_thresh = settings["nms_threshold"]
    other.max_detections_per_image = settings["max_detections"]
    with torch.no_grad():
        case.check_detections("alt0", other(case.batch())[0]["instances"])


def test_anchors_are_assigned_as_published(case: Case, model: nn.Module, outputs: dict):
    truth = [item["instances"] for item in case.batch()]
    labels, _ = model.label_anchors(outputs["anchors"], truth)
    assigned = ((labels[0] >= 0) & (labels[0] < case.config["num_classes"])).nonzero().flatten()
    assert torch.equal(assigned, torch.from_numpy(case.golden["assign0.index"]))
    assert torch.equal(labels[0][assigned], torch.from_numpy(case.golden["assign0.class"]))
    assert (labels[0] == -1).sum() == int(case.golden["assign0.ignored"])


def test_losses_and_gradients_are_the_published_ones(case: Case):
    model = build_model(_config(case.config)).train()
    parameters = case.load(model)
    with EventStorage():
        losses = model(case.batch())
    for name in ("loss_cls", "loss_box_reg"):
        case.check(f"loss.{name}", losses[name])
    sum(losses.values()).backward()
    case.check_gradients(parameters)


def _config(settings: dict) -> CfgNode:
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = settings["pixel_mean"], settings["pixel_std"]
    cfg.INPUT.FORMAT = settings["input_format"]
    cfg.MODEL.BACKBONE.NAME = "DyHead"
    cfg.MODEL.BACKBONE.FREEZE_AT = settings["resnet"]["freeze_at"]
    cfg.MODEL.RESNETS.OUT_FEATURES = settings["resnet"]["out_features"]
    cfg.MODEL.FPN.BOTTOM_UP = "build_resnet_backbone"
    cfg.MODEL.FPN.IN_FEATURES = settings["fpn"]["in_features"]
    cfg.MODEL.RETINANET.IN_FEATURES = settings["retinanet"]["in_features"]
    cfg.MODEL.RETINANET.IOU_THRESHOLDS = settings["retinanet"]["iou_thresholds"]
    cfg.MODEL.RETINANET.IOU_LABELS = settings["retinanet"]["iou_labels"]
    cfg.MODEL.RETINANET.SMOOTH_L1_LOSS_BETA = settings["retinanet"]["smooth_l1_loss_beta"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = settings["anchors"]["sizes"]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = settings["anchors"]["aspect_ratios"]
    cfg.MODEL.ANCHOR_GENERATOR.OFFSET = settings["anchors"]["offset"]
    return cfg
