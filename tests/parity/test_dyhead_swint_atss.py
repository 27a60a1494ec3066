"""The whole detector: Swin-T, FPN, six blocks of the dynamic head and ATSS."""

import pytest
import torch
from parity.cases import Case, record
from torch import Tensor

import d2ext.modeling  # noqa: F401
from d2ext.config import get_cfg
from d2ext.modeling.dense_heads import ATSSPredictions
from d2ext.modeling.meta_arch import ATSS
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes

LEVELS = ("p3", "p4", "p5", "p6", "p7")
LOSSES = {"loss_cls": "loss_cls", "loss_box_reg": "loss_box_reg", "loss_centerness": "loss_ctr"}


@pytest.fixture(scope="module")
def case() -> Case:
    return Case("dyhead_swint_atss")


@pytest.fixture(scope="module")
def model(case: Case) -> ATSS:
    model = build_model(_config(case.config))
    case.load(model)
    return model


@pytest.fixture(scope="module")
def outputs(case: Case, model: ATSS) -> dict:
    """What the parts of the model gave in evaluation, by name."""
    outputs = record(
        {
            "backbone": model.backbone.backbone.bottom_up,
            "fpn": model.backbone.backbone,
            "dyhead0": model.backbone.blocks[0],
            "dyhead2": model.backbone.blocks[2],
            "dyhead": model.backbone,
            "head": model.head,
            "model": model,
        }
    )
    with torch.no_grad():
        model.eval()(case.batch())
    return dict(outputs)


def test_images_are_normalised_and_padded_alike(case: Case, model: ATSS):
    case.check("input", model.preprocess(case.batch()).tensor)


def test_features_are_the_published_ones(case: Case, outputs: dict):
    for name in ("backbone", "fpn", "dyhead"):
        for level, feature in outputs[name].items():
            case.check(f"{name}.{level}", feature)
    for name in ("dyhead0", "dyhead2"):
        for level, feature in zip(LEVELS, outputs[name], strict=True):
            case.check(f"{name}.{level}", feature)


def test_head_outputs_and_anchors_are_the_published_ones(case: Case, outputs: dict):
    head: ATSSPredictions = outputs["head"]
    for i, level in enumerate(LEVELS):
        size = outputs["fpn"][level].shape[-2:]
        case.check(f"head.logits.{level}", _as_map(head.logits[i], size))
        case.check(f"head.deltas.{level}", _as_map(head.deltas[i], size))
        case.check(f"head.ctr.{level}", _as_map(head.centerness[i][..., None], size))
    case.check("anchors", Boxes.cat(head.anchors).tensor)


def test_detections_are_the_published_ones(case: Case, outputs: dict):
    case.check_detections("det0", outputs["model"][0]["instances"])


def test_detections_with_other_thresholds_are_the_published_ones(case: Case, outputs: dict):
    settings = case.facts["alternative_postprocessing"]
    cfg = _config(case.config)
    cfg.MODEL.ATSS.SCORE_THRESH_TEST = settings["score_threshold"]
    cfg.MODEL.ATSS.TOPK_CANDIDATES_TEST = settings["pre_nms_topk"]
    cfg.MODEL.ATSS.NMS_THRESH_TEST = settings["nms_threshold"]
    cfg.TEST.DETECTIONS_PER_IMAGE = settings["max_detections"]
    head = build_model(cfg).head
    sizes = [tuple(image["image"].shape[-2:]) for image in case.batch()]
    case.check_detections("alt0", head.decode(outputs["head"], sizes)[0])


def test_positive_anchors_are_the_published_ones(case: Case, model: ATSS, outputs: dict):
    instances = [image["instances"] for image in case.batch()]
    targets = model.head.targets(outputs["head"].anchors, instances)
    index = torch.from_numpy(case.golden["assign0.index"])
    assert torch.equal(targets.positive[0].nonzero()[:, 0], index)
    assert torch.equal(targets.classes, torch.from_numpy(case.golden["assign0.class"]))


def test_losses_are_the_published_ones(case: Case, model: ATSS):
    with torch.no_grad():
        losses = model.train()(case.batch())
    for name, theirs in LOSSES.items():
        case.check(f"loss.{theirs}", losses[name])


@pytest.mark.slow
def test_gradients_are_the_published_ones(case: Case):
    # In float64: a few sampling points lie within float32 rounding of a pixel's border, where
    # the gradient jumps, so that float32 depends on the machine.
    model = build_model(_config(case.config)).double().train()
    parameters = case.load(model)
    sum(model(case.batch()).values()).backward()
    case.check_gradients(parameters)


def _as_map(cells: Tensor, size: torch.Size) -> Tensor:
    """(B, H * W, C) -> (B, C, H, W)."""
    return cells.transpose(1, 2).unflatten(2, size)


def _config(settings: dict) -> CfgNode:
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "ATSS"
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = settings["pixel_mean"], settings["pixel_std"]
    cfg.INPUT.FORMAT = settings["input_format"]
    cfg.MODEL.BACKBONE.NAME = "DyHead"
    cfg.MODEL.SWIN.DROP_PATH_RATE = 0.0
    cfg.MODEL.FPN.IN_FEATURES = settings["fpn"]["in_features"]
    cfg.MODEL.ATSS.NUM_CONVS = settings["atss"]["num_convs"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = settings["anchors"]["sizes"]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [settings["anchors"]["aspect_ratios"]]
    cfg.MODEL.ANCHOR_GENERATOR.OFFSET = settings["anchors"]["offset"]
    return cfg
