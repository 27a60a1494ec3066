"""Deformable convolutions as functions."""

import pytest
import torch

import d2ext  # noqa: F401
from d2ext._detectron2 import provider
from detectron2.layers import DeformConv, ModulatedDeformConv
from detectron2.layers.deform_conv import deform_conv, modulated_deform_conv

pytestmark = pytest.mark.skipif(
    provider() != "bundled", reason="the official one has no CPU kernels"
)


def test_deform_conv_functions_match_the_modules():
    torch.manual_seed(0)
    x, offset, mask = torch.rand(1, 4, 6, 6), torch.rand(1, 36, 3, 3), torch.rand(1, 18, 3, 3)
    geometry = {"stride": 2, "padding": 1, "groups": 2, "deformable_groups": 2}
    plain = DeformConv(4, 8, 3, **geometry)
    torch.testing.assert_close(deform_conv(x, offset, plain.weight, **geometry), plain(x, offset))
    layer = ModulatedDeformConv(4, 8, 3, **geometry)
    torch.nn.init.normal_(layer.bias)
    torch.testing.assert_close(
        modulated_deform_conv(x, offset, mask, layer.weight, layer.bias, **geometry),
        layer(x, offset, mask),
    )
