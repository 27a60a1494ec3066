"""A deformable convolution that predicts its own offsets and masks.

Source: Zhu et al., "Deformable ConvNets v2", 2019, arXiv:1811.11168, section 3.2.
"""

import torch
from torch import Tensor, nn

from d2ext.layers.deform_conv import ModulatedDeformConv


class DeformConvPack(nn.Module):
    """A 3x3 modulated deformable convolution of stride 1 with its offset and mask convolution.

    Args:
        in_channels, out_channels: number of channels.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.offset = nn.Conv2d(in_channels, 27, 3, padding=1)  # y and x of 9 taps, and 9 masks
        self.conv = ModulatedDeformConv(in_channels, out_channels, 3, padding=1)
        # Zeros, as in the paper: training starts from a plain convolution with masks of 1/2.
        for parameter in self.offset.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, in_channels, H, W) to (B, out_channels, H, W)."""
        offset, mask = self.offset(x).split((18, 9), dim=1)
        return self.conv(x, offset, torch.sigmoid(mask))
