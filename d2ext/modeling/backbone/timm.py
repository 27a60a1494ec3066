"""Any backbone of `timm` with feature maps, which are named by their stride.

Source: Wightman, "PyTorch Image Models", https://github.com/huggingface/pytorch-image-models.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from difflib import get_close_matches
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from d2ext.errors import ConfigError, WeightsError
from d2ext.layers import is_depthwise
from d2ext.model_zoo.fetch import fetch
from d2ext.model_zoo.timm_models import timm_model
from d2ext.modeling.backbone.freezing import FreezableStages, configured_freeze_at, stages_to_freeze
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone


@BACKBONE_REGISTRY.register()
class TimmBackbone(FreezableStages, Backbone):
    """A `timm` model's feature maps "stride4", "stride8", ... by their stride in pixels.

    Of several maps with one stride, the deepest is used.

    Args:
        name: a name of `timm.list_models()`.
        in_channels: channels of the image.
        out_features: names of the feature maps to return.
        pretrained: download timm's weights.
        freeze_at: stages that are not trained: 0 none, 1 what precedes the stage of stride 4, and
            2 to 5 also those of stride 4 to 32.
        freeze_norm: batch norms keep their statistics, scale and shift in training.
        freeze_depthwise: depthwise convolutions keep their weights in training.
    """

    @configurable
    def __init__(
        self,
        *,
        name: str,
        in_channels: int,
        out_features: Sequence[str],
        pretrained: bool,
        freeze_at: int = 0,
        freeze_norm: bool = False,
        freeze_depthwise: bool = False,
    ) -> None:
        super().__init__()
        from d2ext.modeling.backbone.timm_layers import replace_slow_layers

        _check_name(name)
        stages = _create(name, in_channels).feature_info
        index = {f"stride{stride}": i for i, stride in enumerate(stages.reduction())}
        unknown = sorted(set(out_features) - set(index))
        if unknown:
            raise ConfigError(
                f"MODEL.TIMM.OUT_FEATURES: {name} has no feature map {unknown[0]!r}; it has "
                f"{', '.join(index)}."
            )
        self.out_features = tuple(feature for feature in index if feature in out_features)
        indices = [index[feature] for feature in self.out_features]
        options = _pretrained(name) if pretrained else {}
        self.model = _create(name, in_channels, out_indices=indices, **options)
        self.channels_last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
        replace_slow_layers(self.model)
        self.depthwise = any(is_depthwise(module) for module in self.modules())
        first = _count_first(self._names(), stages, freeze_at)
        fixed = self._names(_is_norm) if freeze_norm else []
        fixed += self._names(is_depthwise) if freeze_depthwise else []
        self.freeze_first(self._names()[:first] + fixed)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        options = {key.lower(): value for key, value in cfg.MODEL.TIMM.items()}
        return {
            "in_channels": input_shape.channels,
            "freeze_at": configured_freeze_at(cfg),
            **options,
        }

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map (B, in_channels, H, W) to {name: (B, C, ceil(H / stride), ceil(W / stride))}."""
        if not torch.compiler.is_exporting():  # whose file would take no map of one cell then
            images = images.contiguous(memory_format=torch.channels_last)
        with self._fast_gradients(images):
            maps = self.model(images)
        if self.channels_last:
            maps = [feature.permute(0, 3, 1, 2) for feature in maps]
        return dict(zip(self.out_features, maps, strict=True))

    def output_shape(self) -> dict[str, ShapeSpec]:
        info = self.model.feature_info
        shapes = zip(self.out_features, info.channels(), info.reduction(), strict=True)
        return {name: ShapeSpec(channels=width, stride=stride) for name, width, stride in shapes}

    def _fast_gradients(self, images: Tensor) -> AbstractContextManager[Any]:
        autocast = images.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        return DepthwiseGradients() if self.depthwise and autocast else nullcontext()

    def _names(self, kind: Callable[[nn.Module], bool] | None = None) -> list[str]:
        """Return the names of the parameters, in order; of the modules of a kind alone."""
        if kind is None:
            return [name for name, _ in self.named_parameters()]
        chosen = tuple(f"{name}." for name, module in self.named_modules() if kind(module))
        return [name for name, _ in self.named_parameters() if name.startswith(chosen)]


class DepthwiseGradients(TorchFunctionMode):
    """Computes in float32 those depthwise convolutions whose bfloat16 gradients are slow on a CPU.

    These are PyTorch's own, which run where `DepthwiseConv2d` does not take d2ext's operator.
    oneDNN has fast bfloat16 kernels of the forward pass, and of the input's gradient at stride 1.
    The weights' gradient, and the input's at stride 2, take four to forty times as long as in
    float32.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not F.conv2d or not _has_slow_gradients(*args, **kwargs):
            return func(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            return func(args[0].float(), *args[1:], **kwargs)


def _has_slow_gradients(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> bool:
    if groups == 1 or not torch.is_grad_enabled():
        return False
    return weight.requires_grad or (images.requires_grad and stride not in (1, (1, 1)))


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm)


def _count_first(names: Sequence[str], stages: Any, freeze_at: int) -> int:
    """Count the parameters of the stages that FREEZE_AT freezes, the first in `names`."""
    if freeze_at == 0:
        return 0
    # timm writes the path of a stage with dots or underscores, some in one more module.
    flat = [name.replace(".", "_").removeprefix("model_").removeprefix("model_") for name in names]
    maps = zip(stages.module_name(), stages.reduction(), strict=True)
    coarse = [(name.replace(".", "_") + "_", stride) for name, stride in maps if stride >= 4]
    count = stages_to_freeze([stride for _, stride in coarse], freeze_at)
    if count:
        return max(i + 1 for i, n in enumerate(flat) if n.startswith(coarse[count - 1][0]))
    return min(i for i, n in enumerate(flat) if n.startswith(coarse[0][0]))


# timm and what it imports take a second, which models without it are spared.
def _check_name(name: str) -> None:
    import timm

    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), n=5) or ["see timm.list_models()"]
        raise ConfigError(
            f"MODEL.TIMM.NAME: timm has no model {name!r}; similar names: {', '.join(near)}."
        )


def _pretrained(name: str) -> dict[str, Any]:
    """Return the options that create a model with timm's weights, downloaded as all others are."""
    entry = timm_model(name)
    if entry is None:
        raise WeightsError(
            f"MODEL.TIMM.PRETRAINED: timm has no weights for {name}; set it to False."
        )
    file = str(fetch(entry))
    return {"pretrained": True, "pretrained_cfg_overlay": {"file": file, "hf_hub_id": None}}


def _create(name: str, in_channels: int, **options: Any) -> Any:
    """Create the model as a feature extractor, for images of any size where it allows that."""
    import timm

    options |= {"features_only": True, "in_chans": in_channels}
    facts = timm.get_pretrained_cfg(name)
    if facts is not None and facts.fixed_input_size:
        for key, value in (("strict_img_size", False), ("dynamic_img_size", True)):
            with suppress(TypeError):  # not every family of models knows each option
                return timm.create_model(name, **{**options, key: value})
    return timm.create_model(name, **options)
