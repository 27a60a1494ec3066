"""The recipes have the published numbers, build their model and choose its mapper."""

from pathlib import Path

import pytest
import torch

from d2ext.config import load_config
from d2ext.data.mappers.default import EvaluationMapper
from d2ext.data.mappers.registry import build_mapper
from detectron2.config import CfgNode
from detectron2.modeling import build_model

FOLDER = Path(__file__).parents[1] / "configs"
RECIPES = sorted(FOLDER.rglob("*.yaml"))

pytest.importorskip("detectron2.projects.panoptic_deeplab", exc_type=ImportError)


def load(path: Path) -> CfgNode:
    # Batch norms that need no GPU.
    norms = [f"MODEL.{part}.NORM" for part in ("RESNETS", "SEM_SEG_HEAD", "INS_EMBED_HEAD")]
    return load_config(path, ["MODEL.DEVICE", "meta", *(x for key in norms for x in (key, "BN"))])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_builds_its_model_with_the_published_widths(path):
    with torch.device("meta"):
        model = build_model(load(path))
    weights = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert weights["backbone.stem.conv3.weight"] == (128, 64, 3, 3)
    assert weights["sem_seg_head.predictor.weight"] == (19, 256, 1, 1)
    assert weights["ins_embed_head.center_head.0.weight"] == (128, 128, 3, 3)
    separable = "dsconv" in path.stem
    assert ("ins_embed_head.offset_head.depthwise.weight" in weights) == separable
    assert ("sem_seg_head.head.depthwise.weight" in weights) == separable


def test_the_recipe_has_the_published_schedule():
    cfg = load(FOLDER / "cityscapes" / "panoptic_deeplab_R52_os16_bs32_90k.yaml")
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER) == (32, 0.001, 90000)
    assert (cfg.SOLVER.LR_SCHEDULER_NAME, cfg.SOLVER.WEIGHT_DECAY) == ("WarmupPolyLR", 0)
    assert list(cfg.INPUT.CROP.SIZE) == [512, 1024]


def test_targets_are_made_for_training_and_for_the_validation_loss():
    cfg = load(RECIPES[0])
    train, validation = build_mapper(cfg, "train"), build_mapper(cfg, "validation")
    assert len(train.augmentations.augs) == 3  # resize, crop, flip
    assert len(validation.augmentations.augs) == 1
    assert validation.panoptic_target_generator.sigma == 10
    assert isinstance(build_mapper(cfg, "test"), EvaluationMapper)
