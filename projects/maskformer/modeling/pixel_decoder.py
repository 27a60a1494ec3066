"""Pixel decoders of MaskFormer: a feature pyramid, plain or below a transformer encoder.

Source: Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation",
2021, arXiv:2107.06278, sections 3.2 and 4.1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from fvcore.nn.weight_init import c2_xavier_fill
from torch import Tensor, nn

from d2ext.modeling.transformer import SinePositionEncoding, TransformerEncoder
from detectron2.layers import Conv2d, get_norm


@dataclass
class PixelFeatures:
    """What a pixel decoder gives.

    Attributes:
        embeddings: (B, C, h, w) of every pixel of the finest feature map.
        memory: maps (B, C_i, H_i, W_i) for the transformer decoder, coarsest first.
    """

    embeddings: Tensor
    memory: list[Tensor]


class TopDownPyramid(nn.Module):
    """From coarse to fine: the map so far, resized, plus a lateral map, then a convolution.

    Args:
        in_channels: widths of the lateral maps, finest first.
        channels: width of the pyramid.
        norm: see `detectron2.layers.get_norm`.
        mode: of the resizing, see `torch.nn.functional.interpolate`.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, norm: str, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.laterals = nn.ModuleList(
            norm_conv(width, channels, norm, kernel_size=1) for width in in_channels
        )
        self.outputs = nn.ModuleList(
            norm_conv(channels, channels, norm, kernel_size=3, activation=F.relu)
            for _ in in_channels
        )

    def forward(self, coarsest: Tensor, features: Sequence[Tensor]) -> Tensor:
        """(B, channels, H, W), finer maps (B, C_i, H_i, W_i) -> (B, channels, H_0, W_0)."""
        current = coarsest
        layers = [*zip(features, self.laterals, self.outputs, strict=True)]
        for feature, lateral, output in reversed(layers):
            resized = F.interpolate(current, size=feature.shape[-2:], mode=self.mode)
            current = output(lateral(feature) + resized)
        return current


class PixelDecoder(nn.Module):
    """The plain pixel decoder; with an encoder, that of the panoptic models.

    Args:
        in_channels: widths of the backbone's maps, finest first.
        channels: width of the pyramid and of the embeddings.
        norm: of the convolutions, see `detectron2.layers.get_norm`.
        encoder: transformer encoder of the coarsest map, whose output is the memory. Without one
            the memory is that map itself.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        norm: str,
        encoder: TransformerEncoder | None = None,
    ) -> None:
        super().__init__()
        *finer, coarsest = in_channels
        self.encoder = encoder
        if encoder is not None:
            self.input_proj = c2_xavier(nn.Conv2d(coarsest, channels, 1))
            self.position = SinePositionEncoding(channels)
            reset_xavier(encoder)
        width = coarsest if encoder is None else channels
        self.coarsest = norm_conv(width, channels, norm, kernel_size=3, activation=F.relu)
        self.pyramid = TopDownPyramid(finer, channels, norm, mode="nearest")
        self.embedding = c2_xavier(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, features: Sequence[Tensor]) -> PixelFeatures:
        """Decode the backbone's maps (B, C_i, H_i, W_i), finest first."""
        *finer, coarsest = features
        memory = coarsest if self.encoder is None else self._encode(coarsest)
        pyramid = self.pyramid(self.coarsest(memory), finer)
        return PixelFeatures(self.embedding(pyramid), [memory])

    def _encode(self, feature: Tensor) -> Tensor:
        assert self.encoder is not None
        feature = self.input_proj(feature)
        position = pixel_positions(self.position, feature)
        tokens = self.encoder(feature.flatten(2).mT, position.flatten(2).mT, None)
        return tokens.mT.unflatten(2, feature.shape[-2:])


def pixel_positions(encoding: SinePositionEncoding, feature: Tensor) -> Tensor:
    """Return the encoding of all pixels of a map (B, C, H, W); padding counts as any pixel."""
    mask = torch.zeros_like(feature[:, 0], dtype=torch.bool)
    return encoding(mask).to(feature.dtype)


def norm_conv(
    in_channels: int,
    channels: int,
    norm: str,
    kernel_size: int,
    activation: Callable[[Tensor], Tensor] | None = None,
) -> Conv2d:
    """Build a convolution that keeps the size, with norm; it has a bias only without norm."""
    conv = Conv2d(
        in_channels,
        channels,
        kernel_size,
        padding=kernel_size // 2,
        bias=not norm,
        norm=get_norm(norm, channels),
        activation=activation,
    )
    c2_xavier_fill(conv)
    return conv


def c2_xavier(conv: nn.Conv2d) -> nn.Conv2d:
    """Initialise a convolution as Caffe2's XavierFill does, in place; return it."""
    c2_xavier_fill(conv)
    return conv


@torch.no_grad()
def reset_xavier(module: nn.Module) -> None:
    """Initialise all matrices by Xavier's uniform rule, as published for transformers."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
