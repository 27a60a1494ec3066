"""The convolution layer of YOLO-FastestV2."""

import torch.nn.functional as F

from detectron2.layers import Conv2d, get_norm


def conv(
    in_channels: int,
    out_channels: int,
    *,
    norm: str,
    kernel_size: int = 1,
    stride: int = 1,
    depthwise: bool = False,
    relu: bool = True,
) -> Conv2d:
    """Build a convolution without bias, padded to keep the size, with norm and optional ReLU.

    Args:
        norm: a name of `detectron2.layers.get_norm`.
        depthwise: convolve each channel on its own.
    """
    return Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=kernel_size // 2,
        groups=in_channels if depthwise else 1,
        bias=False,
        norm=get_norm(norm, out_channels),
        activation=F.relu_ if relu else None,
    )
