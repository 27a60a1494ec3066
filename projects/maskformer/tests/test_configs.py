"""Every recipe loads, builds its model, and has the papers' schedule."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from d2ext.config import load_config
from d2ext.data.mappers.registry import mapper_name
from d2ext.engine.param_groups import build_param_groups
from detectron2.modeling import build_model

FOLDER = Path(__file__).parents[1] / "configs"
RECIPES = sorted(path for path in FOLDER.rglob("*.yaml") if not path.name.startswith("base_"))


def load(name: str, options: Sequence[str] = ()):
    return load_config(FOLDER / name, ["MODEL.DEVICE", "cpu", *options])


# The smallest Swin: larger ones differ in numbers alone, and cannot be built without memory.
SWIN = [
    *("MODEL.SWIN.EMBED_DIM", "8"),
    *("MODEL.SWIN.DEPTHS", "[1, 1, 1, 1]"),
    *("MODEL.SWIN.NUM_HEADS", "[1, 1, 1, 1]"),
]


def build(cfg):
    """Build a model, without memory where possible."""
    with torch.device("cpu" if cfg.MODEL.BACKBONE.NAME == "SwinTransformer" else "meta"):
        return build_model(cfg)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_a_recipe_builds_its_model_and_its_rules_match_parameters(path):
    cfg = load_config(path, ["MODEL.DEVICE", "cpu", "MODEL.RESNETS.NORM", "FrozenBN", *SWIN])
    cfg.MODEL.DEVICE = "cpu" if cfg.MODEL.BACKBONE.NAME == "SwinTransformer" else "meta"
    for key in [key for key in cfg.AUTO if key.endswith("NUM_CLASSES")]:
        cfg.merge_from_list([key, 5])
    assert build_param_groups(cfg, build(cfg))
    assert mapper_name(cfg) == "maskformer"


def test_the_coco_recipe_of_mask2former_has_the_published_numbers():
    cfg = load("coco/instance/maskformer2_R50_bs16_50ep.yaml")
    solver, model = cfg.SOLVER, cfg.MODEL.MASK_FORMER
    assert (solver.MAX_ITER, solver.STEPS, solver.IMS_PER_BATCH) == (368750, (327778, 355092), 16)
    assert (*(0.0001, 0.05, 0.01),) == (
        solver.BASE_LR,
        solver.WEIGHT_DECAY,
        solver.CLIP_GRADIENTS.CLIP_VALUE,
    )
    weights = model.LOSS
    assert (weights.CLASS_WEIGHT, weights.MASK_WEIGHT, weights.DICE_WEIGHT) == (2.0, 5.0, 5.0)
    assert (weights.NO_OBJECT_WEIGHT, weights.NUM_POINTS) == (0.1, 12544)
    assert (model.DECODER_LAYERS, model.NUM_QUERIES) == (9, 100)
    assert (cfg.INPUT.MASK_FORMER.SCALE_JITTER, cfg.INPUT.MASK_FORMER.SIZE) == ([0.1, 2.0], 1024)


def test_the_ade20k_recipe_has_the_published_sizes():
    cfg = load("ade20k/semantic/maskformer2_R50_bs16_160k.yaml")
    assert (min(cfg.INPUT.MIN_SIZE_TRAIN), max(cfg.INPUT.MIN_SIZE_TRAIN)) == (256, 1024)
    assert (list(cfg.INPUT.CROP.SIZE), cfg.INPUT.MASK_FORMER.COLOR_SSD) == ([512, 512], True)
    assert (cfg.SOLVER.LR_SCHEDULER_NAME, cfg.SOLVER.MAX_ITER) == ("WarmupPolyLR", 160000)


def test_swin_backbones_of_maskformer_learn_as_fast_as_the_rest():
    cfg = load("ade20k/semantic/maskformer_swin_tiny_bs16_160k.yaml", SWIN)
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY) == (0.00006, 0.01)
    assert {group["lr"] for group in build_param_groups(cfg, build(cfg))} == {0.00006}
