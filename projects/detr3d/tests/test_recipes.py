"""Every recipe builds its model, mapper and sampler, on the meta device to be cheap."""

from pathlib import Path

import pytest
import torch

import d2ext
from d2ext.config import load_config
from d2ext.data.mappers import build_mapper
from d2ext.data.sampling import build_training_sampler
from d2ext.projects.detr3d.data.classes import CLASSES
from detectron2.modeling import build_model

FOLDER = Path(d2ext.__file__).parents[1] / "projects/detr3d/configs"
RECIPES = sorted(path.name for path in FOLDER.glob("detr3d_*.yaml"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_builds_a_model_that_reads_levels_of_its_backbone(name):
    cfg = load_config(str(FOLDER / name), ["MODEL.DEVICE", "meta"])
    with torch.device("meta"):  # no memory and no time for initial values
        model = build_model(cfg)
    shapes = model.backbone.output_shape()
    strides = [shapes[level].stride for level in model.in_features]
    assert strides == sorted(strides)
    head = model.head
    weights = head.decoder.layers[0].cross_attn.attention_weights.weight
    assert len(weights) == cfg.MODEL.DETR3D.NUM_CAMERAS * len(strides)
    assert head.class_branches[0][-1].weight.shape[0] == len(CLASSES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_draws_and_maps_samples(name, items):
    cfg = load_config(str(FOLDER / name))
    drawn = next(iter(build_training_sampler(cfg, items)))
    sample = build_mapper(cfg, "train", ())(items[drawn])
    assert len(sample["image"]) == cfg.MODEL.DETR3D.NUM_CAMERAS
    assert sample["instances"].has("gt_boxes_3d")
