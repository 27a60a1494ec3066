"""The registry of dense heads."""

from typing import Any

from d2ext.modeling.lookup import get_registered
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry

DENSE_HEAD_REGISTRY = Registry("DENSE_HEAD")
DENSE_HEAD_REGISTRY.__doc__ = """
Heads that predict at every cell of a feature pyramid, called as `head(cfg, input_shapes)`.

They have `forward(features) -> predictions`, `losses(predictions, instances) -> dict` and
`decode(predictions, image_sizes) -> list of Instances`. A `DenseHead` can be exported, too.
"""


def build_dense_head(name: str, cfg: CfgNode, input_shapes: dict[str, ShapeSpec]) -> Any:
    """Build the head registered as `name` on features of `input_shapes`.

    Raises:
        ConfigError: no head of that name is registered.
    """
    return get_registered(DENSE_HEAD_REGISTRY, "MODEL.DENSE_HEAD.NAME", name)(cfg, input_shapes)
