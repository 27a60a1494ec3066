"""The interface of backbones: networks from images to named feature maps."""

from abc import ABCMeta, abstractmethod

from torch import Tensor, nn

from detectron2.layers import ShapeSpec

__all__ = ["Backbone"]


class Backbone(nn.Module, metaclass=ABCMeta):
    """Base class of all backbones.

    A subclass sets `_out_features`, `_out_feature_channels` and `_out_feature_strides` (the latter
    two by feature name), or overrides `output_shape`.
    """

    _out_features: list[str]
    _out_feature_channels: dict[str, int]
    _out_feature_strides: dict[str, int]

    @abstractmethod
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map images (B, C, H, W) to feature maps by name."""

    @property
    def size_divisibility(self) -> int:
        """Divisor of the input's height and width; 0 if any size is accepted."""
        return 0

    @property
    def padding_constraints(self) -> dict[str, int]:
        """Further constraints on padding; "square_size": pad to squares of at least this side."""
        return {}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Return channels and stride of each feature map."""
        return {
            name: ShapeSpec(
                channels=self._out_feature_channels[name], stride=self._out_feature_strides[name]
            )
            for name in self._out_features
        }
