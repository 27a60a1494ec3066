"""What is known of a feature map without computing it."""

from dataclasses import dataclass


@dataclass
class ShapeSpec:
    """Channels, spatial size and stride of a feature map; `None` where unknown.

    `stride` is in pixels of the input image for each element of the map.
    """

    channels: int | None = None
    height: int | None = None
    width: int | None = None
    stride: int | None = None
