"""The class-agnostic instance branch of Panoptic-DeepLab: centres, and offsets to them."""

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry

from ..deeplab import DeepLabV3PlusHead
from ..deeplab.semantic_seg import Norm, context_convs, decoder_options, pixel_predictor

__all__ = ["INS_EMBED_BRANCHES_REGISTRY", "PanopticDeepLabInsEmbedHead", "build_ins_embed_branch"]

Losses = dict[str, Tensor]

INS_EMBED_BRANCHES_REGISTRY = Registry("INS_EMBED_BRANCHES")
INS_EMBED_BRANCHES_REGISTRY.__doc__ = """Instance branches by name.

A registered object is called with `(cfg, input_shape: dict[str, ShapeSpec])`.
"""


def build_ins_embed_branch(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    """Build the branch named by `cfg.MODEL.INS_EMBED_HEAD.NAME`."""
    return INS_EMBED_BRANCHES_REGISTRY.get(cfg.MODEL.INS_EMBED_HEAD.NAME)(cfg, input_shape)


@INS_EMBED_BRANCHES_REGISTRY.register()
class PanopticDeepLabInsEmbedHead(DeepLabV3PlusHead):
    """A decoder of DeepLabV3+ with two predictions per pixel: centre score and offset.

    Args:
        input_shape: channels and stride of each feature.
        decoder_channels, norm: see `DeepLabV3PlusHead`.
        head_channels: channels before the predictions.
        center_loss_weight: weight of the squared error of the centre scores.
        offset_loss_weight: weight of the absolute error of the offsets.
        kwargs: arguments of `DeepLabV3PlusHead`.
    """

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        decoder_channels: Sequence[int],
        norm: Norm,
        head_channels: int,
        center_loss_weight: float,
        offset_loss_weight: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape, decoder_channels=decoder_channels, norm=norm, **kwargs)
        self.center_loss_weight = center_loss_weight
        self.offset_loss_weight = offset_loss_weight
        finest = decoder_channels[0]
        separable = kwargs.get("use_depthwise_separable_conv", False)
        # Published models have plain convolutions before the centres in either case.
        self.center_head = context_convs(finest, finest, head_channels, norm, separable=False)
        self.center_predictor = pixel_predictor(head_channels, 1)
        self.offset_head = context_convs(finest, finest, head_channels, norm, separable)
        self.offset_predictor = pixel_predictor(head_channels, 2)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        section = cfg.MODEL.INS_EMBED_HEAD
        return {
            **decoder_options(cfg, section, input_shape),
            "head_channels": section.HEAD_CHANNELS,
            "center_loss_weight": section.CENTER_LOSS_WEIGHT,
            "offset_loss_weight": section.OFFSET_LOSS_WEIGHT,
        }

    def forward(
        self,
        features: dict[str, Tensor],
        center_targets: Tensor | None = None,
        center_weights: Tensor | None = None,
        offset_targets: Tensor | None = None,
        offset_weights: Tensor | None = None,
    ) -> tuple[Tensor | None, Tensor | None, Losses, Losses]:
        """Return None twice and both losses in training, otherwise centres, offsets and {} twice.

        Centres are scores (B, 1, H, W), offsets (B, 2, H, W) y and x in pixels.

        Args:
            center_targets: (B, 1, H, W), 1 at a centre.
            offset_targets: (B, 2, H, W) pixels.
            center_weights, offset_weights: (B, 1, H, W) weights of the losses per pixel.
        """
        center, offset = self.layers(features)
        if not self.training:
            return self._upsampled(center), self._upsampled_offsets(offset), {}, {}
        return (
            None,
            None,
            self.center_losses(center, *cast(Any, (center_targets, center_weights))),
            self.offset_losses(offset, *cast(Any, (offset_targets, offset_weights))),
        )

    def layers(self, features: dict[str, Tensor]) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Compute centre scores and offsets, both at `common_stride` and in its units."""
        decoded = super().layers(features)
        center = self.center_predictor(self.center_head(decoded))
        return center, self.offset_predictor(self.offset_head(decoded))

    def center_losses(self, predictions: Tensor, targets: Tensor, weights: Tensor) -> Losses:
        """Compute "loss_center", the mean squared error, of the scores of `layers`."""
        errors = F.mse_loss(self._upsampled(predictions), targets, reduction="none")
        return {"loss_center": _weighted_mean(errors, weights) * self.center_loss_weight}

    def offset_losses(self, predictions: Tensor, targets: Tensor, weights: Tensor) -> Losses:
        """Compute "loss_offset", the mean absolute error |y| + |x|, of the offsets of `layers`."""
        errors = F.l1_loss(self._upsampled_offsets(predictions), targets, reduction="none")
        return {"loss_offset": _weighted_mean(errors, weights) * self.offset_loss_weight}

    def _upsampled_offsets(self, offsets: Tensor) -> Tensor:
        # Distances grow with the resolution.
        return self._upsampled(offsets) * self.common_stride


def _weighted_mean(errors: Tensor, weights: Tensor) -> Tensor:
    """Average (B, C, H, W) errors over pixels, summed over C; 0 where no pixel has a weight."""
    total = weights.sum()
    return (errors * weights).sum() / total.where(total > 0, 1)
