"""The shape of a feature map, known without computing it."""

from dataclasses import dataclass


@dataclass
class ShapeSpec:
    """Channels, spatial size and stride of a feature map; None if unknown.

    `stride` is in pixels of the input image per element of the map.
    """

    channels: int | None = None
    height: int | None = None
    width: int | None = None
    stride: int | None = None
