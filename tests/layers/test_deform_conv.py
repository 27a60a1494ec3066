import inspect

import pytest
import torch
from torch import nn

import d2ext  # noqa: F401
from d2ext.layers import DeformConv, ModulatedDeformConv
from d2ext.ops import deform_conv2d


def test_the_module_calls_the_operator_with_its_parameters():
    module = ModulatedDeformConv(4, 6, 3, stride=2, padding=1, groups=2, deformable_groups=2)
    x, offset, mask = torch.rand(1, 4, 5, 5), torch.rand(1, 36, 3, 3), torch.rand(1, 18, 3, 3)
    expected = deform_conv2d(x, offset, module.weight, module.bias, stride=2, padding=1, mask=mask)
    torch.testing.assert_close(module(x, offset, mask), expected)


def test_deform_conv_v1_has_no_mask_and_no_bias():
    module = DeformConv(4, 6, 3)
    assert [name for name, _ in module.named_parameters()] == ["weight"]
    output = module(torch.rand(1, 4, 5, 5), torch.zeros(1, 18, 3, 3))
    plain = nn.functional.conv2d(torch.ones(1, 4, 5, 5), module.weight)
    assert output.shape == plain.shape
    with pytest.raises(ValueError, match="no bias"):
        DeformConv(4, 6, 3, bias=True)


def test_norm_and_activation_follow_the_convolution():
    module = ModulatedDeformConv(4, 6, 1, norm=nn.BatchNorm2d(6), activation=nn.functional.relu)
    x, offset, mask = torch.randn(2, 4, 3, 3), torch.zeros(2, 2, 3, 3), torch.ones(2, 1, 3, 3)
    plain = nn.functional.conv2d(x, module.weight, module.bias)
    torch.testing.assert_close(module(x, offset, mask), module.norm(plain).relu())


def test_offsets_with_a_wrong_number_of_groups_raise():
    module = DeformConv(4, 6, 3, deformable_groups=2)
    with pytest.raises(ValueError, match="36 channels"):
        module(torch.rand(1, 4, 5, 5), torch.zeros(1, 18, 3, 3))


@pytest.mark.parametrize("name", ["DeformConv", "ModulatedDeformConv"])
def test_signatures_equal_detectron2s(name):
    theirs = pytest.importorskip("detectron2.layers")
    if not hasattr(theirs, name):
        pytest.skip(f"this detectron2 has no {name}")
    own = inspect.signature({"DeformConv": DeformConv}.get(name, ModulatedDeformConv))
    expected = inspect.signature(getattr(theirs, name))
    assert list(own.parameters) == list(expected.parameters)
    defaults = [p.default for p in own.parameters.values()]
    assert defaults == [p.default for p in expected.parameters.values()]
