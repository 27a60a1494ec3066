"""What a backbone is: images in, named feature maps out."""

from abc import ABCMeta, abstractmethod

from torch import Tensor, nn

from detectron2.layers import ShapeSpec

__all__ = ["Backbone"]


class Backbone(nn.Module, metaclass=ABCMeta):
    """Base of all backbones.

    A subclass sets `_out_features`, `_out_feature_channels` and `_out_feature_strides` (the two
    latter by feature name), or overrides `output_shape`.
    """

    _out_features: list[str]
    _out_feature_channels: dict[str, int]
    _out_feature_strides: dict[str, int]

    @abstractmethod
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (B, C, H, W) -> feature maps by name."""

    @property
    def size_divisibility(self) -> int:
        """Height and width of the input must be multiples of this; 0: anything goes."""
        return 0

    @property
    def padding_constraints(self) -> dict[str, int]:
        """More wishes on how images are padded; "square_size": to squares of at least this side."""
        return {}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each feature map."""
        return {
            name: ShapeSpec(
                channels=self._out_feature_channels[name], stride=self._out_feature_strides[name]
            )
            for name in self._out_features
        }
