"""The registry of heads that predict at every cell of a feature pyramid."""

from torch import nn

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry

DENSE_HEAD_REGISTRY = Registry("DENSE_HEAD")
DENSE_HEAD_REGISTRY.__doc__ = """
Heads that predict at every cell of a feature pyramid, called as `head(cfg, input_shapes)`.

They have `forward(features) -> predictions`, `losses(predictions, instances) -> dict` and
`decode(predictions, image_sizes) -> list of Instances`.
"""


def build_dense_head(name: str, cfg: CfgNode, input_shapes: dict[str, ShapeSpec]) -> nn.Module:
    """The head registered as `name` on features of `input_shapes`."""
    return DENSE_HEAD_REGISTRY.get(name)(cfg, input_shapes)
