"""Published variants of maskrcnn-benchmark and Detectron come back as the models they were."""

from collections.abc import Callable

import pytest
import torch

from d2ext.checkpoint.conversion import convert
from detectron2.modeling import build_model
from tests.helpers.legacy_names import State, to_detectron, to_maskrcnn_benchmark
from tests.test_rcnn_recipes import narrow

BENCHMARK = [
    "faster_rcnn_r50_c4_1x",
    "faster_rcnn_r101_fpn_3x",
    "faster_rcnn_x101_32x8d_fpn_3x",
    "mask_rcnn_r50_c4_1x",
    "mask_rcnn_r50_fpn_1x",
    "mask_rcnn_r50_fpn_dcn_1x",
    "keypoint_rcnn_r50_fpn_1x",
    "rpn_r50_c4_1x",
]
DETECTRON = [
    "faster_rcnn_r50_c4_1x",
    "mask_rcnn_r50_c4_1x",
    "mask_rcnn_r101_fpn_3x",
    "mask_rcnn_x101_32x8d_fpn_3x",
    "keypoint_rcnn_r50_fpn_1x",
    "rpn_r50_fpn_1x",
]
BLOCKS = {50: [3, 4, 6, 3], 101: [3, 4, 23, 3]}


def check(recipe: str, rename: Callable[[State, list[int]], State], layout: str) -> None:
    cfg = narrow(recipe)
    state = build_model(cfg).state_dict()
    generator = torch.Generator().manual_seed(0)
    for value in state.values():
        if value.is_floating_point():
            value.copy_(torch.randn(value.shape, generator=generator))
    pyramid = "FPN" if "fpn" in recipe else "C4"
    found = convert(rename(state, BLOCKS[cfg.MODEL.RESNETS.DEPTH]), state)
    assert found.layout.name == f"{layout} {pyramid}"
    match = found.match(state)
    assert match.complete
    assert not match.unexpected
    for name, value in found.weights.items():
        if layout == "Detectron" and "running" in name:
            assert set(value.tolist()) in ({0.0}, {value[0].item()})
        else:
            assert torch.equal(value, state[name]), name


@pytest.mark.parametrize("recipe", BENCHMARK)
def test_maskrcnn_benchmark(recipe: str) -> None:
    check(recipe, to_maskrcnn_benchmark, "maskrcnn-benchmark")


@pytest.mark.parametrize("recipe", DETECTRON)
def test_detectron(recipe: str) -> None:
    check(recipe, to_detectron, "Detectron")
