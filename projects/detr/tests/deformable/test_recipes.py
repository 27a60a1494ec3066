"""The published recipes of models with deformable attention."""

from pathlib import Path

import pytest

from d2ext.config import load_config
from d2ext.engine.param_groups import build_param_groups
from detectron2.modeling import build_model

FOLDER = Path(__file__).parents[2] / "configs/coco"
NAMES = ["*deformable_detr*", "dino*"]
RECIPES = sorted(path for name in NAMES for path in FOLDER.glob(f"{name}.yaml"))
ITERATIONS = 7392  # per epoch of 118,287 images, 16 at a time, as the family's recipes count them


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_published_recipe_names_its_paper_and_ap_and_its_own_command(path):
    header = path.read_text(encoding="utf-8").split("_BASE_")[0]
    assert "published AP on" in " ".join(header.split())
    assert "arXiv:" in header
    assert f"configs/coco/{path.name}" in header


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_published_recipe_has_feature_maps_that_its_backbone_gives(path):
    cfg = load_config(path)
    given = cfg.MODEL.RESNETS if "resnet" in cfg.MODEL.BACKBONE.NAME else cfg.MODEL.SWIN
    assert cfg.MODEL.DETR.IN_FEATURES == given.OUT_FEATURES
    assert len(cfg.MODEL.DETR.IN_FEATURES) <= cfg.MODEL.DEFORMABLE_DETR.NUM_LEVELS


@pytest.mark.parametrize(
    ("name", "batch", "rate", "epochs", "drop"),
    [
        ("deformable_detr_r50", 32, 2e-4, 50, 40),
        ("deformable_detr_r50_two_stage", 32, 2e-4, 50, 40),
        ("dab_deformable_detr_r50", 16, 1e-4, 50, 40),
        ("dino_r50_4scale_12ep", 16, 1e-4, 12, 11),
        ("dino_r50_4scale_24ep", 16, 1e-4, 24, 20),
        ("dino_r50_5scale_36ep", 16, 1e-4, 36, 30),
        ("dino_swinl_4scale_36ep", 16, 1e-4, 36, 30),
    ],
)
def test_schedules_are_the_published_ones(name, batch, rate, epochs, drop):
    solver = load_config(FOLDER / f"{name}.yaml").SOLVER
    assert (batch, rate, 1e-4) == (solver.IMS_PER_BATCH, solver.BASE_LR, solver.WEIGHT_DECAY)
    assert epochs * ITERATIONS * 16 == solver.MAX_ITER * batch
    assert [drop * ITERATIONS * 16 // batch] == list(solver.STEPS)
    assert solver.CLIP_GRADIENTS.CLIP_VALUE == 0.1


@pytest.mark.parametrize("model", ["dino", "deformable_detr"])
def test_recipes_from_pretrained_weights_differ_in_backbone_and_rate_alone(model):
    small, pretrained = (
        load_config(FOLDER.parent / f"{model}_{name}.yaml") for name in ("regnetx200m", "lite0")
    )
    assert pretrained.MODEL.TIMM.NAME == "tf_efficientnet_lite0"
    pretrained.MODEL.TIMM.NAME = small.MODEL.TIMM.NAME
    pretrained.SOLVER.LR_FOR_16_IMAGES = small.SOLVER.LR_FOR_16_IMAGES
    assert pretrained == small


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "slow", "parameters"),
    [
        ("deformable_detr_r50", {"backbone", "sampling_offsets", "reference_points"}, 39_847_265),
        ("deformable_detr_r50_two_stage", {"backbone", "sampling_offsets"}, 40_959_129),
        ("dab_deformable_detr_r50", {"backbone"}, 47_183_594),
        ("dino_r50_4scale_12ep", {"backbone"}, 46_670_782),
        ("dino_r50_5scale_12ep", {"backbone"}, 47_033_406),
    ],
)
def test_parameters_are_as_many_as_the_authors_and_some_learn_slower(name, slow, parameters):
    options = ["MODEL.DEVICE", "cpu", "MODEL.DETR.NUM_CLASSES", "91"]  # COCO's ids, as published
    cfg = load_config(FOLDER / f"{name}.yaml", options)
    model = build_model(cfg)
    groups = build_param_groups(cfg, model)
    rates = {id(each): group["lr"] for group in groups for each in group["params"]}
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    assert sum(each.numel() for each in trained.values()) == parameters
    for full, each in trained.items():
        factor = 0.1 if slow & set(full.split(".")) else 1.0
        assert rates[id(each)] == pytest.approx(factor * cfg.SOLVER.BASE_LR), full
