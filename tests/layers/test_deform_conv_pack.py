import torch
import torch.nn.functional as F

from d2ext.layers import DeformConvPack


def test_untrained_output_is_half_a_plain_convolution():
    layer, x = DeformConvPack(3, 5), torch.randn(2, 3, 6, 7)
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.conv.weight / 2, padding=1))


def test_offsets_move_the_samples_and_get_gradients():
    layer, x = DeformConvPack(3, 5), torch.randn(2, 3, 6, 7)
    layer(x).square().sum().backward()
    assert layer.offset.weight.grad.any()
    torch.nn.init.constant_(layer.offset.bias, 1.0)  # one pixel down and right
    moved = F.conv2d(F.pad(x, (0, 1, 0, 1))[..., 1:, 1:], layer.conv.weight, padding=1)
    expected = moved * torch.tensor(1.0).sigmoid()
    torch.testing.assert_close(layer(x)[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])
