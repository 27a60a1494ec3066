import torch

from d2ext.layers import DeformConvPack
from d2ext.modeling.dense_heads.tower import conv_tower


def test_the_last_convolution_of_a_tower_may_be_deformable():
    tower = conv_tower(8, 32, num_convs=2, norm="GN", deformable=True, num_levels=5)
    assert [type(layer) for layer in tower[::3]] == [torch.nn.Conv2d, DeformConvPack]
    assert tower(torch.randn(1, 8, 5, 4), level=0).shape == (1, 32, 5, 4)
    plain = conv_tower(8, 32, num_convs=2, norm="", deformable=False, num_levels=5)
    assert [type(layer) for layer in plain] == [torch.nn.Conv2d, torch.nn.ReLU] * 2
