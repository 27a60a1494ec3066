"""The semantic head of Panoptic-DeepLab."""

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY

from ..deeplab import DeepLabV3PlusHead
from ..deeplab.loss import build_loss
from ..deeplab.semantic_seg import Norm, context_convs, pixel_predictor

__all__ = ["PanopticDeepLabSemSegHead"]


@SEM_SEG_HEADS_REGISTRY.register()
class PanopticDeepLabSemSegHead(DeepLabV3PlusHead):
    """The decoder of DeepLabV3+, two more convolutions and a classifier.

    Args:
        input_shape: channels and stride of each feature.
        decoder_channels, norm: see `DeepLabV3PlusHead`.
        head_channels: channels before the classifier.
        loss_weight: weight of the loss.
        loss_type: "hard_pixel_mining"; plain cross entropy is that of all pixels, `loss_top_k` 1.
        loss_top_k: fraction of the pixels that is learned, those with the largest loss.
        ignore_value: label of pixels excluded from the loss.
        num_classes: things and stuff.
        kwargs: arguments of `DeepLabV3PlusHead`.

    Raises:
        ValueError: `loss_type` takes no weights of pixels.
    """

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        decoder_channels: Sequence[int],
        norm: Norm,
        head_channels: int,
        loss_weight: float,
        loss_type: str,
        loss_top_k: float,
        ignore_value: int,
        num_classes: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            input_shape,
            decoder_channels=decoder_channels,
            norm=norm,
            ignore_value=ignore_value,
            **kwargs,
        )
        if loss_type != "hard_pixel_mining":
            raise ValueError(
                "MODEL.SEM_SEG_HEAD.LOSS_TYPE: Panoptic-DeepLab weights pixels, which takes "
                f"hard_pixel_mining (LOSS_TOP_K 1.0 learns all pixels), got '{loss_type}'"
            )
        finest = decoder_channels[0]
        separable = kwargs.get("use_depthwise_separable_conv", False)
        self.loss_weight, self.loss_type = loss_weight, loss_type
        self.head = context_convs(finest, finest, head_channels, norm, separable)
        self.predictor = pixel_predictor(head_channels, num_classes)
        self.loss: nn.Module = build_loss(loss_type, ignore_value, loss_top_k)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        section = cfg.MODEL.SEM_SEG_HEAD
        return {
            **super().from_config(cfg, input_shape),
            "head_channels": section.HEAD_CHANNELS,
            "loss_top_k": section.LOSS_TOP_K,
        }

    def forward(
        self,
        features: dict[str, Tensor],
        targets: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Return None and the loss in training, otherwise scores (B, num_classes, H, W) and {}.

        Args:
            targets: (B, H, W) classes.
            weights: (B, H, W) weights of the loss per pixel.
        """
        scores = self.layers(features)
        if self.training:
            return None, self.losses(scores, cast(Tensor, targets), weights)
        return self._upsampled(scores), {}

    def layers(self, features: dict[str, Tensor]) -> Tensor:
        """Compute scores (B, num_classes, H / common_stride, W / common_stride)."""
        return self.predictor(self.head(super().layers(features)))

    def losses(
        self, predictions: Tensor, targets: Tensor, weights: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Compute "loss_sem_seg" of the upsampled scores of `layers`."""
        loss = self.loss(self._upsampled(predictions), targets, weights)
        return {"loss_sem_seg": loss * self.loss_weight}
