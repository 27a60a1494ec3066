import torch

from d2ext.layers import DeformConvPack
from d2ext.modeling.dense_heads.tower import conv_tower


def test_the_last_convolution_of_a_tower_may_be_deformable():
    tower = conv_tower(8, 32, num_convs=2, norm="GN", deformable=True, num_levels=5)
    assert [type(layer) for layer in tower[::3]] == [torch.nn.Conv2d, DeformConvPack]
    assert tower(torch.randn(1, 8, 5, 4), level=0).shape == (1, 32, 5, 4)
    plain = conv_tower(8, 32, num_convs=2, norm="", deformable=False, num_levels=5)
    assert [type(layer) for layer in plain] == [torch.nn.Conv2d, torch.nn.ReLU] * 2


def test_a_group_norm_of_a_tower_trains_on_contiguous_memory():
    tower = conv_tower(8, 32, num_convs=1, norm="GN", deformable=False, num_levels=1)
    norm, plain = tower[1], torch.nn.GroupNorm(32, 32)
    assert list(norm.state_dict()) == list(plain.state_dict())
    images = torch.randn(2, 32, 5, 4).contiguous(memory_format=torch.channels_last)
    results = []
    for layer in (norm, plain):
        given = images.clone().requires_grad_()
        output = layer(given)
        output.pow(3).sum().backward()
        results.append((output, given.grad))
    torch.testing.assert_close(*results)
    assert results[0][0].is_contiguous()
