"""The heads of DeepLabV3 and V3+: atrous spatial pyramid pooling, with and without a decoder."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from fvcore.nn import weight_init
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.config import CfgNode, configurable
from detectron2.layers import ASPP, Conv2d, DepthwiseSeparableConv2d, ShapeSpec, get_norm
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from detectron2.modeling.meta_arch.semantic_seg import UpsamplingHead

from .loss import build_loss

__all__ = ["DeepLabV3Head", "DeepLabV3PlusHead"]

Norm = str | Callable[[int], nn.Module]


class _Head(UpsamplingHead):
    """Base of both heads, with their loss."""

    predictor: Conv2d
    loss: nn.Module
    loss_weight: float

    def losses(self, predictions: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Compute "loss_sem_seg" of the upsampled scores of `layers`."""
        return {"loss_sem_seg": self.loss(self._upsampled(predictions), targets) * self.loss_weight}


@SEM_SEG_HEADS_REGISTRY.register()
class DeepLabV3PlusHead(_Head):
    """DeepLabV3+ head: ASPP features are upsampled stepwise and refined by finer features.

    Args:
        input_shape: channels and stride of each feature.
        project_channels: projected channels of each feature but the coarsest, in the decoder.
        aspp_dilations, aspp_dropout: see `ASPP`.
        decoder_channels: channels of each feature after fusion; the last are those of ASPP.
        common_stride: stride of the finest feature, to which all are upsampled.
        norm: normalisation, see `get_norm`.
        train_size: (height, width) of the training crops in pixels: image pooling is over that
            size, also at test time. None: over the whole image.
        loss_weight: weight of the loss.
        loss_type: "cross_entropy" or "hard_pixel_mining".
        ignore_value: label of pixels excluded from the loss.
        num_classes: None omits the classifier: the head returns features.
        use_depthwise_separable_conv: use these instead of 3x3 convolutions.
    """

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        project_channels: Sequence[int],
        aspp_dilations: Sequence[int],
        aspp_dropout: float,
        decoder_channels: Sequence[int],
        common_stride: int,
        norm: Norm,
        train_size: tuple[int, int] | None,
        loss_weight: float = 1.0,
        loss_type: str = "cross_entropy",
        ignore_value: int = -1,
        num_classes: int | None = None,
        use_depthwise_separable_conv: bool = False,
    ) -> None:
        super().__init__()
        shapes = sorted(input_shape.items(), key=lambda item: cast(int, item[1].stride))
        self.in_features = [name for name, _ in shapes]
        self.decoder_only = num_classes is None
        self.ignore_value, self.common_stride = ignore_value, common_stride
        self.loss_weight, self.loss_type = loss_weight, loss_type
        if len(project_channels) != len(shapes) - 1 or len(decoder_channels) != len(shapes):
            raise ValueError(
                f"features {', '.join(self.in_features)} need {len(shapes) - 1} project_channels "
                f"and {len(shapes)} decoder_channels, got {list(project_channels)} and "
                f"{list(decoder_channels)}"
            )
        self.decoder = nn.ModuleDict()
        for index, (name, shape) in enumerate(shapes[:-1]):
            self.decoder[name] = _fusion(
                cast(int, shape.channels),
                project_channels[index],
                decoder_channels[index + 1],
                decoder_channels[index],
                norm,
                use_depthwise_separable_conv,
            )
        name, shape = shapes[-1]
        aspp = ASPP(
            cast(int, shape.channels),
            decoder_channels[-1],
            aspp_dilations,
            norm=norm,
            activation=F.relu,
            pool_kernel_size=_pool_size(train_size, cast(int, shape.stride)),
            dropout=aspp_dropout,
            use_depthwise_separable_conv=use_depthwise_separable_conv,
        )
        self.decoder[name] = nn.ModuleDict({"project_conv": aspp, "fuse_conv": None})
        if num_classes is not None:
            self.predictor = pixel_predictor(decoder_channels[0], num_classes)
            self.loss = build_loss(loss_type, ignore_value)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        section = cfg.MODEL.SEM_SEG_HEAD
        return {
            **decoder_options(cfg, section, input_shape),
            "loss_weight": section.LOSS_WEIGHT,
            "loss_type": section.LOSS_TYPE,
            "ignore_value": section.IGNORE_VALUE,
            "num_classes": section.NUM_CLASSES,
        }

    def forward(self, features: dict[str, Tensor], targets: Tensor | None = None) -> Any:
        """Return loss or scores like the other heads; without a classifier the features."""
        return self.layers(features) if self.decoder_only else super().forward(features, targets)

    def layers(self, features: dict[str, Tensor]) -> Tensor:
        """Compute scores (or features) at the resolution of the first feature."""
        *finer, coarsest = self.in_features
        x = self._step(coarsest)["project_conv"](features[coarsest])
        for name in reversed(finer):
            step = self._step(name)
            projected = step["project_conv"](features[name])
            x = F.interpolate(x, projected.shape[-2:], mode="bilinear", align_corners=False)
            x = step["fuse_conv"](torch.cat([projected, x], dim=1))
        return x if self.decoder_only else self.predictor(x)

    def _step(self, name: str) -> nn.ModuleDict:
        return cast(nn.ModuleDict, self.decoder[name])


@SEM_SEG_HEADS_REGISTRY.register()
class DeepLabV3Head(_Head):
    """DeepLabV3 head: `ASPP` on one feature, and a classifier.

    Raises:
        ValueError: the config names more than one feature.
    """

    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
        super().__init__()
        section = cfg.MODEL.SEM_SEG_HEAD
        if len(section.IN_FEATURES) != 1:
            raise ValueError(
                f"DeepLabV3Head takes one of MODEL.SEM_SEG_HEAD.IN_FEATURES, got "
                f"{section.IN_FEATURES}; DeepLabV3PlusHead takes several"
            )
        self.in_features = section.IN_FEATURES
        self.ignore_value, self.common_stride = section.IGNORE_VALUE, section.COMMON_STRIDE
        self.loss_weight, self.loss_type = section.LOSS_WEIGHT, section.LOSS_TYPE
        self.aspp = ASPP(
            cast(int, input_shape[self.in_features[0]].channels),
            section.ASPP_CHANNELS,
            section.ASPP_DILATIONS,
            norm=section.NORM,
            activation=F.relu,
            pool_kernel_size=_pool_size(_train_size(cfg), self.common_stride),
            dropout=section.ASPP_DROPOUT,
            use_depthwise_separable_conv=section.USE_DEPTHWISE_SEPARABLE_CONV,
        )
        self.predictor = pixel_predictor(section.ASPP_CHANNELS, section.NUM_CLASSES)
        self.loss = build_loss(self.loss_type, self.ignore_value)

    def layers(self, features: dict[str, Tensor]) -> Tensor:
        """Compute scores at the resolution of the feature."""
        return self.predictor(self.aspp(features[self.in_features[0]]))


def decoder_options(
    cfg: CfgNode, section: CfgNode, input_shape: dict[str, ShapeSpec]
) -> dict[str, Any]:
    """Return the arguments of `DeepLabV3PlusHead` that every head with its decoder has.

    Args:
        section: the keys of the head.
    """
    steps = len(section.IN_FEATURES) - 1
    return {
        "input_shape": {k: v for k, v in input_shape.items() if k in section.IN_FEATURES},
        "project_channels": section.PROJECT_CHANNELS,
        "aspp_dilations": section.ASPP_DILATIONS,
        "aspp_dropout": section.ASPP_DROPOUT,
        "decoder_channels": [section.CONVS_DIM] * steps + [section.ASPP_CHANNELS],
        "common_stride": section.COMMON_STRIDE,
        "norm": section.NORM,
        "train_size": _train_size(cfg),
        "use_depthwise_separable_conv": cfg.MODEL.SEM_SEG_HEAD.USE_DEPTHWISE_SEPARABLE_CONV,
    }


def _train_size(cfg: CfgNode) -> tuple[int, int] | None:
    crop = cfg.INPUT.CROP
    if not crop.ENABLED:
        return None
    if crop.TYPE != "absolute":
        raise ValueError(
            f"DeepLab's heads need crops of one size: INPUT.CROP.TYPE absolute, got {crop.TYPE}"
        )
    return tuple(crop.SIZE)


def _pool_size(train_size: tuple[int, int] | None, stride: int) -> tuple[int, int] | None:
    if train_size is None:
        return None
    if any(side % stride for side in train_size):
        raise ValueError(f"the size of crops, {train_size}, is no multiple of stride {stride}")
    return train_size[0] // stride, train_size[1] // stride


def _fusion(
    in_channels: int,
    project_channels: int,
    below_channels: int,
    out_channels: int,
    norm: Norm,
    separable: bool,
) -> nn.ModuleDict:
    """Build the layers that fuse a feature with those of coarser strides."""
    joined = project_channels + below_channels
    fuse = context_convs(joined, out_channels, out_channels, norm, separable)
    project = _conv(in_channels, project_channels, 1, norm)
    return nn.ModuleDict({"project_conv": project, "fuse_conv": fuse})


def context_convs(
    in_channels: int, hidden_channels: int, out_channels: int, norm: Norm, separable: bool
) -> nn.Module:
    """Build two 3x3 convolutions, or a depthwise separable one that sees as far: 5x5."""
    if separable:
        return DepthwiseSeparableConv2d(
            in_channels,
            out_channels,
            kernel_size=5,
            padding=2,
            norm1=norm,
            activation1=F.relu,
            norm2=norm,
            activation2=F.relu,
        )
    return nn.Sequential(
        _conv(in_channels, hidden_channels, 3, norm), _conv(hidden_channels, out_channels, 3, norm)
    )


def _conv(in_channels: int, out_channels: int, size: int, norm: Norm) -> Conv2d:
    conv = Conv2d(
        in_channels,
        out_channels,
        kernel_size=size,
        padding=size // 2,
        bias=not norm,
        norm=get_norm(norm, out_channels),
        activation=F.relu,
    )
    weight_init.c2_xavier_fill(conv)
    return conv


def pixel_predictor(in_channels: int, out_channels: int) -> Conv2d:
    """Build the 1x1 convolution of the outputs, small at first."""
    predictor = Conv2d(in_channels, out_channels, kernel_size=1)
    nn.init.normal_(predictor.weight, std=0.001)
    nn.init.zeros_(cast(Tensor, predictor.bias))
    return predictor
