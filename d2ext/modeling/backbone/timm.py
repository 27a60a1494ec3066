"""Any backbone of `timm` with feature maps, which are named by their stride.

Source: Wightman, "PyTorch Image Models", https://github.com/huggingface/pytorch-image-models.
"""

from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import Any

import timm
from torch import Tensor

from d2ext.errors import ConfigError
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone


@BACKBONE_REGISTRY.register()
class TimmBackbone(Backbone):
    """A `timm` model's feature maps "stride4", "stride8", ... by their stride in pixels.

    Of several maps with one stride, the deepest is used.

    Args:
        name: a name of `timm.list_models()`.
        in_channels: channels of the image.
        out_features: names of the feature maps to return.
        pretrained: download timm's weights.
    """

    @configurable
    def __init__(
        self, *, name: str, in_channels: int, out_features: Sequence[str], pretrained: bool
    ) -> None:
        super().__init__()
        if not timm.is_model(name):
            near = get_close_matches(name, timm.list_models(), n=5) or ["see timm.list_models()"]
            raise ConfigError(
                f"MODEL.TIMM.NAME: timm has no model {name!r}; similar names: {', '.join(near)}."
            )
        index = _index_of_strides(_create(name, in_channels))
        unknown = sorted(set(out_features) - set(index))
        if unknown:
            raise ConfigError(
                f"MODEL.TIMM.OUT_FEATURES: {name} has no feature map {unknown[0]!r}; it has "
                f"{', '.join(index)}."
            )
        self.out_features = tuple(feature for feature in index if feature in out_features)
        indices = [index[feature] for feature in self.out_features]
        self.model = _create(name, in_channels, out_indices=indices, pretrained=pretrained)
        self.channels_last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        options = {key.lower(): value for key, value in cfg.MODEL.TIMM.items()}
        return {"in_channels": input_shape.channels, **options}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map (B, in_channels, H, W) to {name: (B, C, ceil(H / stride), ceil(W / stride))}."""
        maps = self.model(images)
        if self.channels_last:
            maps = [feature.permute(0, 3, 1, 2) for feature in maps]
        return dict(zip(self.out_features, maps, strict=True))

    def output_shape(self) -> dict[str, ShapeSpec]:
        info = self.model.feature_info
        shapes = zip(self.out_features, info.channels(), info.reduction(), strict=True)
        return {name: ShapeSpec(channels=width, stride=stride) for name, width, stride in shapes}


def _create(name: str, in_channels: int, **options: Any) -> Any:
    """Create the model as a feature extractor, for images of any size where it allows that."""
    options |= {"features_only": True, "in_chans": in_channels}
    facts = timm.get_pretrained_cfg(name)
    if facts is not None and facts.fixed_input_size:
        for key, value in (("strict_img_size", False), ("dynamic_img_size", True)):
            with suppress(TypeError):  # not every family of models knows each option
                return timm.create_model(name, **{**options, key: value})
    return timm.create_model(name, **options)


def _index_of_strides(model: Any) -> dict[str, int]:
    """Return the index in the model of each feature map by its name, finest first."""
    return {f"stride{stride}": i for i, stride in enumerate(model.feature_info.reduction())}
