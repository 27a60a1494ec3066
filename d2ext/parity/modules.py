"""Parity of single modules: their outputs, and the gradients of a weighted mean of these."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from d2ext.config import get_cfg
from d2ext.modeling.backbone import SwinTransformer
from d2ext.modeling.neck import DyHeadBlock
from d2ext.parity import recipe
from d2ext.parity.case import Case
from d2ext.parity.core_settings import DYHEAD, SWIN
from d2ext.parity.readers import register_parity_reader
from detectron2.layers import ShapeSpec


def swin_backbone(case: Case) -> dict[str, Tensor]:
    """Run a bare Swin on one image of any size."""
    cfg = get_cfg()
    SWIN.merge(cfg, "config", case.config)
    cfg.MODEL.SWIN.DROP_PATH_RATE, cfg.MODEL.BACKBONE.FREEZE_AT = 0.0, 0
    model = SwinTransformer(cfg, ShapeSpec(channels=3))
    parameters = case.load(model)
    inputs = {"input.image": _images(case.facts["input"])}
    return _with_gradients(case, parameters, inputs, model)


register_parity_reader(lambda facts: "embed_dim" in facts.get("config", {}), swin_backbone)


def dyhead_block(case: Case) -> dict[str, Tensor]:
    """Run one block of the dynamic head on levels of made-up features."""
    cfg = get_cfg()
    DYHEAD.merge(cfg, "config", case.config)
    block = DyHeadBlock(case.config["channels"], cfg.MODEL.DYHEAD.COARSE_OFFSETS)
    whole = nn.ModuleDict({"blocks": nn.ModuleList([block])})
    parameters = case.load(whole, prefix="dyhead_tower.0.")
    shapes = case.facts["input"]["features"]
    inputs = {f"input.{name}": _standard_normal(f"input.{name}", shapes[name]) for name in shapes}
    return _with_gradients(
        case, parameters, inputs, lambda *levels: dict(zip(shapes, block(levels), strict=True))
    )


register_parity_reader(lambda facts: "group_norm_groups" in facts.get("config", {}), dyhead_block)


def _with_gradients(
    case: Case,
    parameters: Mapping[str, Tensor],
    inputs: dict[str, Tensor],
    function: Callable[..., dict[str, Tensor]],
) -> dict[str, Tensor]:
    outputs: dict[str, Any] = function(*(value.requires_grad_() for value in inputs.values()))
    weights = {name: _weight_of(name, output) for name, output in outputs.items()}
    loss = torch.stack([(outputs[name] * weights[name]).mean() for name in outputs]).sum()
    loss.backward()
    leaves = {**parameters, **inputs}
    gradients = {
        f"grad.{name}": leaf.grad for name, leaf in leaves.items() if leaf.grad is not None
    }
    return {**outputs, "loss.total": loss, **gradients}


def _weight_of(name: str, output: Tensor) -> Tensor:
    return _standard_normal(f"weight.{name}", output.shape)


def _standard_normal(name: str, shape: Any) -> Tensor:
    """Return the recipe's numbers with unit variance: it divides by the root of a sample's size."""
    size = np.float32(np.sqrt(np.prod(shape[1:])))
    return torch.from_numpy(recipe.fill(name, shape) * size)


def _images(facts: Mapping[str, Any]) -> Tensor:
    """Return normalised images (B, 3, H, W)."""
    mean, std = (torch.tensor(facts["normalisation"][key]) for key in ("mean", "std"))
    pixels = [recipe.image(seed, facts["height"], facts["width"]) for seed in facts["seeds"]]
    images = (torch.from_numpy(np.stack(pixels)) - mean) / std
    return images.permute(0, 3, 1, 2).contiguous()
