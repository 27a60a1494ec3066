"""`detectron2.projects.deeplab`: the parts that packages import."""

from typing import Any

import pytest
import torch

import d2ext  # noqa: F401
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone, build_model
from detectron2.projects.deeplab import (
    DeepLabV3PlusHead,
    add_deeplab_config,
    build_lr_scheduler,
)
from detectron2.projects.deeplab.loss import DeepLabCE


def config(*overrides: Any) -> CfgNode:
    cfg = get_cfg()
    add_deeplab_config(cfg)
    cfg.merge_from_list(
        [
            *("MODEL.DEVICE", "cpu"),
            *("MODEL.META_ARCHITECTURE", "SemanticSegmentor"),
            *("MODEL.BACKBONE.NAME", "build_resnet_deeplab_backbone"),
            *("MODEL.RESNETS.OUT_FEATURES", ["res2", "res5"]),
            *("MODEL.RESNETS.RES2_OUT_CHANNELS", 16),
            *("MODEL.RESNETS.STEM_OUT_CHANNELS", 8),
            *("MODEL.RESNETS.WIDTH_PER_GROUP", 4),
            *("MODEL.RESNETS.RES5_DILATION", 2),
            *("MODEL.SEM_SEG_HEAD.NAME", "DeepLabV3PlusHead"),
            *("MODEL.SEM_SEG_HEAD.IN_FEATURES", ["res2", "res5"]),
            *("MODEL.SEM_SEG_HEAD.NORM", "BN"),
            *("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 5),
            *overrides,
        ]
    )
    return cfg


def test_the_multi_grid_multiplies_the_dilation_of_the_last_stage():
    backbone = build_backbone(config())
    assert [block.conv2.dilation[0] for block in backbone.res5] == [2, 4, 8]
    assert backbone.output_shape()["res5"] == ShapeSpec(channels=128, stride=16)


def test_the_stem_has_three_convolutions():
    weights = {
        name: tuple(weight.shape)
        for name, weight in build_backbone(config()).stem.named_parameters()
    }
    assert weights == {
        "conv1.weight": (4, 3, 3, 3),
        "conv2.weight": (4, 4, 3, 3),
        "conv3.weight": (8, 4, 3, 3),
    }


@pytest.mark.parametrize("separable", [False, True])
def test_a_segmentor_trains_and_infers(separable: bool):
    model = build_model(config("MODEL.SEM_SEG_HEAD.USE_DEPTHWISE_SEPARABLE_CONV", separable))
    inputs = [
        {"image": torch.rand(3, 64, 64) * 255, "sem_seg": torch.randint(0, 5, (64, 64))}
        for _ in range(2)
    ]
    losses = model(inputs)
    losses["loss_sem_seg"].backward()
    assert all(p.grad is not None for p in model.sem_seg_head.parameters())
    assert model.eval()(inputs)[0]["sem_seg"].shape == (5, 64, 64)


def test_state_dict_names_of_the_head_match_the_published_checkpoints():
    shapes = {"res2": ShapeSpec(channels=4, stride=4), "res5": ShapeSpec(channels=8, stride=16)}
    names = DeepLabV3PlusHead(config(), shapes).state_dict()
    assert names["decoder.res2.project_conv.weight"].shape == (48, 4, 1, 1)
    assert names["decoder.res2.fuse_conv.1.norm.running_var"].shape == (128,)
    assert names["decoder.res5.project_conv.convs.4.1.bias"].shape == (256,)
    assert names["predictor.weight"].shape == (5, 128, 1, 1)


def test_image_pooling_covers_the_size_of_the_training_crop():
    crops = ("INPUT.CROP.ENABLED", True, "INPUT.CROP.SIZE", [64, 128], "INPUT.CROP.TYPE")
    shapes = {"res2": ShapeSpec(channels=4, stride=4), "res5": ShapeSpec(channels=8, stride=16)}
    head = DeepLabV3PlusHead(config(*crops, "absolute"), shapes)
    pool = head.decoder["res5"]["project_conv"].convs[4][0]
    assert tuple(pool.kernel_size) == (4, 8)


def test_the_loss_is_the_mean_of_the_hardest_pixels_with_zero_for_ignored_ones():
    scores = torch.zeros(1, 2, 1, 4)
    scores[0, 0] = torch.tensor([[9.0, 0.0, -9.0, -9.0]])
    target = torch.tensor([[[0, 0, 0, 255]]])
    hardest = DeepLabCE(ignore_label=255, top_k_percent_pixels=0.25)(scores, target)
    assert hardest.item() == pytest.approx(9.000123, abs=1e-5)
    everything = DeepLabCE(ignore_label=255)(scores, target)
    assert everything.item() == pytest.approx((0.000123 + 0.693147 + 9.000123) / 4, abs=1e-5)


def learning_rates(**solver: Any) -> list[float]:
    cfg = config()
    cfg.SOLVER.update({"LR_SCHEDULER_NAME": "WarmupPolyLR", "MAX_ITER": 10, **solver})
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule, found = build_lr_scheduler(cfg, optimizer), []
    for _ in range(10):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_the_learning_rate_decays_polynomially_after_the_warm_up():
    rates = learning_rates(WARMUP_ITERS=3, POLY_LR_POWER=2.0)
    assert rates[:3] == pytest.approx([0.001, 0.334 * 0.81, 0.667 * 0.64])
    assert rates[3:] == pytest.approx([0.49, 0.36, 0.25, 0.16, 0.09, 0.04, 0.01])


def test_the_learning_rate_decays_to_the_constant_ending():
    rates = learning_rates(WARMUP_ITERS=0, POLY_LR_POWER=1.0, POLY_LR_CONSTANT_ENDING=0.35)
    assert rates[5:] == pytest.approx([0.5, 0.4, 0.35, 0.35, 0.35])


def test_other_schedules_are_built_by_the_solver():
    rates = learning_rates(LR_SCHEDULER_NAME="WarmupMultiStepLR", STEPS=(5,), WARMUP_ITERS=0)
    assert rates == pytest.approx([1.0] * 5 + [0.1] * 5)
