"""Depthwise convolution compared with PyTorch's, at layers of EfficientNet-Lite0."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import Problem
from benchmarks.problems import register_problems
from d2ext.ops import depthwise_conv2d

# Batch, channels, height, width, kernel and stride, for 8 images of 304x408.
LAYERS = [
    (8, 144, 76, 102, 3, 1),
    (8, 144, 76, 102, 5, 2),
    (8, 240, 38, 51, 5, 1),
    (8, 672, 19, 26, 5, 1),
    (8, 1152, 10, 13, 5, 1),
]


def problems(device: torch.device, dtype: torch.dtype) -> Iterator[Problem]:
    """Yield one problem per layer, channels last as in the backbones."""
    for batch, channels, height, width, kernel, stride in LAYERS:
        generator = torch.Generator().manual_seed(0)
        maps = torch.randn((batch, channels, height, width), generator=generator)
        weight = torch.randn((channels, 1, kernel, kernel), generator=generator)
        maps = maps.to(device, dtype).contiguous(memory_format=torch.channels_last)
        yield Problem(
            title=f"depthwise_conv2d {kernel}x{kernel}, stride {stride}, "
            f"{batch}x{channels}x{height}x{width}",
            inputs=[maps.requires_grad_(), weight.to(device, dtype).requires_grad_(), stride],
            ways={"d2ext": d2ext_way, "PyTorch": pytorch_way},
            peer="PyTorch",
        )


def d2ext_way(input: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Call the operator with all its checks."""
    return depthwise_conv2d(input, weight, stride=stride, padding=weight.shape[-1] // 2)


def pytorch_way(input: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Call PyTorch's convolution with a group per channel."""
    padding = weight.shape[-1] // 2
    return F.conv2d(input, weight, stride=stride, padding=padding, groups=input.shape[1])


register_problems("ops", "depthwise_conv2d", problems)
