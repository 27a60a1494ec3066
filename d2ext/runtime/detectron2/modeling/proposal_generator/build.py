"""The registry of proposal generators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry

if TYPE_CHECKING:
    from detectron2.config import CfgNode

PROPOSAL_GENERATOR_REGISTRY = Registry("PROPOSAL_GENERATOR")
PROPOSAL_GENERATOR_REGISTRY.__doc__ = """Proposal generators by name.

A registered object is called with `(cfg, input_shape: dict[str, ShapeSpec])`. Its result is called
with images, features and ground truth and gives proposals and losses.
"""


def build_proposal_generator(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> nn.Module | None:
    """Build the generator named by `cfg.MODEL.PROPOSAL_GENERATOR.NAME`; may be None.

    "PrecomputedProposals" has no generator: proposals come with the images.
    """
    name = cfg.MODEL.PROPOSAL_GENERATOR.NAME
    if name == "PrecomputedProposals":
        return None
    return PROPOSAL_GENERATOR_REGISTRY.get(name)(cfg, input_shape)
