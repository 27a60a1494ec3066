"""3x3 convolution by Winograd's algorithm compared with PyTorch's, at layers of Mask R-CNN."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import Problem
from benchmarks.problems import register_problems
from d2ext.ops import winograd_conv2d

# Batch, channels, height, width: two levels of a feature pyramid, mask features, and a backbone's.
LAYERS = [(1, 256, 120, 160), (1, 256, 60, 80), (100, 256, 14, 14), (1, 128, 60, 80)]


def problems(device: torch.device, dtype: torch.dtype) -> Iterator[Problem]:
    """Yield one problem per layer; none for types that the operator does not take."""
    for shape in LAYERS if dtype in (torch.float32, torch.float64) else []:
        generator = torch.Generator().manual_seed(0)
        channels = shape[1]
        maps, weight, bias = (
            torch.randn(size, generator=generator).to(device, dtype).requires_grad_()
            for size in (shape, (channels, channels, 3, 3), (channels,))
        )
        yield Problem(
            title=f"winograd_conv2d, {'x'.join(map(str, shape))}",
            inputs=[maps, weight, bias],
            ways={"d2ext": winograd_conv2d, "PyTorch": pytorch_way},
            peer="PyTorch",
        )


def pytorch_way(input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Call PyTorch's convolution."""
    return F.conv2d(input, weight, bias, padding=1)


register_problems("ops", "winograd_conv2d", problems)
