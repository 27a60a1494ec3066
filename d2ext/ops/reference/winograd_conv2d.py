"""Reference of `d2ext.ops.winograd_conv2d`: PyTorch's own convolution."""

from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight


def winograd_conv2d(input: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    """Convolve (B, C, H, W) with (C', C, 3, 3) kernels at stride 1."""
    return F.conv2d(input, weight, bias, padding=padding)


def winograd_conv2d_backward(grad_output: Tensor, input: Tensor, padding: int) -> Tensor:
    """Compute the gradient with respect to the kernels, (C', C, 3, 3)."""
    shape = (grad_output.shape[1], input.shape[1], 3, 3)
    return conv2d_weight(input, shape, grad_output, padding=padding)
