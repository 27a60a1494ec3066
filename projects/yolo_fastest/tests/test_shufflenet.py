import pytest
import torch
import torch.nn.functional as F

from d2ext.projects.yolo_fastest.modeling.shufflenet import _max_pool


@pytest.mark.parametrize("size", [(8, 8), (7, 10), (1, 5), (2, 1)])
def test_in_place_pooling_equals_max_pool2d(size):
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(2, 5, *size).contiguous(memory_format=layout)
        expected = F.max_pool2d(x, 3, stride=2, padding=1)
        with torch.no_grad():
            assert torch.equal(_max_pool(x.clone()), expected)


def test_pooling_has_gradients():
    x = torch.randn(1, 2, 6, 6, requires_grad=True)
    _max_pool(x).sum().backward()
    assert x.grad.sum() == 2 * 9
