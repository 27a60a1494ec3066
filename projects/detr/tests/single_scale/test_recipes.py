"""The recipes for COCO build the published models."""

from pathlib import Path

import pytest

import d2ext
from d2ext.config import load_config
from d2ext.engine.param_groups import build_param_groups
from detectron2.modeling import build_model

FOLDER = Path(d2ext.__file__).parents[1] / "projects/detr/configs"
# Millions of parameters, frozen stem and first stage included, norm statistics not.
PARAMETERS = {
    "detr_r50": 41.52,
    "detr_r50_dc5": 41.52,
    "detr_r101": 60.46,
    "detr_r101_dc5": 60.46,
    "detr_r50_masks": 42.86,
    "detr_r101_masks": 61.80,
    "detr_r50_panoptic_boxes": 41.54,
    "detr_r50_panoptic": 42.87,
    "detr_r50_dc5_panoptic": 42.87,
    "detr_r101_panoptic": 61.81,
    "conditional_detr_r50": 43.42,
    "conditional_detr_r50_dc5": 43.42,
    "conditional_detr_r101": 62.36,
    "conditional_detr_r101_dc5": 62.36,
    "dab_detr_r50": 43.67,
    "dab_detr_r50_3pat": 43.67,
    "dab_detr_r50_dc5": 43.67,
    "dab_detr_r50_dc5_3pat": 43.67,
    "dab_detr_r101": 62.61,
    "dab_detr_r101_dc5": 62.61,
}


def test_every_recipe_of_these_models_is_tested():
    patterns = ("detr_*.yaml", "conditional_detr_*.yaml", "dab_detr_*.yaml")
    found = {path.stem for pattern in patterns for path in (FOLDER / "coco").glob(pattern)}
    assert found == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_recipe_builds_its_model(name):
    cfg = load_config(FOLDER / "coco" / f"{name}.yaml", ["MODEL.DEVICE", "cpu"])
    model = build_model(cfg)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert millions == pytest.approx(PARAMETERS[name], abs=0.01)
    stride = model.backbone.output_shape()["res5"].stride
    assert stride == (16 if "dc5" in name else 32)


def test_the_backbone_learns_at_a_tenth_of_the_rate():
    cfg = load_config(FOLDER / "coco/detr_r50.yaml", ["MODEL.DEVICE", "cpu"])
    groups = build_param_groups(cfg, build_model(cfg))
    assert {round(group["lr"], 8) for group in groups} == {1e-4, 1e-5}
    assert {group["weight_decay"] for group in groups} == {1e-4}


def test_the_first_block_of_a_dilated_stage_is_not_dilated():
    cfg = load_config(FOLDER / "coco/detr_r50_dc5.yaml", ["MODEL.DEVICE", "cpu"])
    blocks = build_model(cfg).backbone.res5
    assert [block.conv2.dilation for block in blocks] == [(1, 1), (2, 2), (2, 2)]
