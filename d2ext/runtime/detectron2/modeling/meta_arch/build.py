"""The registry of meta-architectures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from detectron2.utils.registry import Registry

if TYPE_CHECKING:
    from detectron2.config import CfgNode

META_ARCH_REGISTRY = Registry("META_ARCH")
META_ARCH_REGISTRY.__doc__ = """Whole models by name.

A registered object is called with `cfg` and returns a module that takes a list of dicts.
"""


def build_model(cfg: CfgNode) -> nn.Module:
    """Build the model named by `cfg.MODEL.META_ARCHITECTURE` on `cfg.MODEL.DEVICE`.

    Its weights are the initial ones; `cfg.MODEL.WEIGHTS` is not loaded.
    """
    model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
    return model.to(torch.device(cfg.MODEL.DEVICE))
