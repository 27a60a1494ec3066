import pytest
import torch

from d2ext.ops import flat_read


def test_the_first_values_of_each_image_are_read_across_channels():
    tensor = torch.arange(24).view(2, 2, 2, 3)
    read = flat_read(tensor, 1, 2)
    assert read.tolist() == [[[[0, 1]], [[2, 3]]], [[[12, 13]], [[14, 15]]]]


def test_memory_format_does_not_change_the_result():
    tensor = torch.rand(2, 3, 4, 5)
    last = tensor.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(flat_read(last, 2, 3), flat_read(tensor, 2, 3))


def test_values_that_are_not_read_get_zero_gradient():
    tensor = torch.rand(1, 2, 2, 2, requires_grad=True)
    flat_read(tensor, 1, 2).sum().backward()
    assert tensor.grad.flatten().tolist() == [1, 1, 1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("shape", "match"), [((2, 3, 4), "B, C, H, W"), ((1, 1, 2, 2), "fewer pixels")]
)
def test_wrong_dimensions_and_too_small_maps_raise(shape, match):
    with pytest.raises(ValueError, match=match):
        flat_read(torch.rand(shape), 3, 2)
