"""The recipes of configs/rcnn build and train a step, at a fraction of their width."""

from pathlib import Path

import pytest
import torch
from torch import nn

from d2ext.config import load_config
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from tests.helpers.runtime_rcnn import batch_for

FOLDER = Path(__file__).parents[1] / "configs" / "rcnn"
RECIPES = sorted(
    path.relative_to(FOLDER).with_suffix("").as_posix()
    for path in FOLDER.rglob("*.yaml")
    if not path.name.startswith("base_")
)


def narrow(recipe: str) -> CfgNode:
    """Return the config of a recipe with 32 channels, which group norms need, and three classes."""
    cfg = load_config(FOLDER / f"{recipe}.yaml", ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""])
    model, resnet = cfg.MODEL, cfg.MODEL.RESNETS
    resnet.STEM_OUT_CHANNELS, resnet.RES2_OUT_CHANNELS = 32, 64
    resnet.WIDTH_PER_GROUP = 32 // resnet.NUM_GROUPS
    model.FPN.OUT_CHANNELS = model.FCOS.CHANNELS = 32
    model.ROI_BOX_HEAD.CONV_DIM = model.ROI_BOX_HEAD.FC_DIM = 32
    model.ROI_MASK_HEAD.CONV_DIM = model.SEM_SEG_HEAD.CONVS_DIM = 32
    model.ROI_KEYPOINT_HEAD.CONV_DIMS = [32]
    model.ROI_HEADS.NUM_CLASSES = 1 if model.KEYPOINT_ON else 3
    model.RETINANET.NUM_CLASSES = model.FCOS.NUM_CLASSES = 3
    model.RPN.POST_NMS_TOPK_TRAIN = 20
    model.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 8
    return cfg


def step(model: nn.Module, inputs: list[dict]) -> dict[str, torch.Tensor]:
    """Train one step of SGD and return the losses."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    with EventStorage():
        losses = model.train()(inputs)
    sum(losses.values()).backward()
    optimizer.step()
    return losses


def test_no_recipe_is_missing() -> None:
    assert len(RECIPES) >= 45


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_trains_a_step(recipe: str) -> None:
    torch.manual_seed(0)
    cfg = narrow(recipe)
    model = build_model(cfg)
    before = {name: value.clone() for name, value in model.named_parameters()}
    losses = step(model, batch_for(cfg))
    assert all(value.isfinite() for value in losses.values())
    if cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN":
        assert ("loss_mask" in losses) == cfg.MODEL.MASK_ON
        assert ("loss_keypoint" in losses) == cfg.MODEL.KEYPOINT_ON
    changed = {n for n, value in model.named_parameters() if not torch.equal(value, before[n])}
    trainable = {n for n, value in model.named_parameters() if value.requires_grad}
    assert changed <= trainable
    assert len(changed) > 0.5 * len(trainable)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_says_its_published_result(recipe: str) -> None:
    text = (FOLDER / f"{recipe}.yaml").read_text(encoding="utf-8")
    head = " ".join(line[1:].strip() for line in text.splitlines() if line.startswith("#"))
    assert "arXiv:" in head or "torchvision" in head
    assert "published" in head or recipe.endswith("own_data")
