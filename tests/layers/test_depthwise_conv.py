import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from d2ext.layers import DepthwiseConv2d, depthwise_conv, is_plain_depthwise
from d2ext.ops import is_compiled
from tests.helpers.op_export import check_export

compiled = pytest.mark.skipif(
    not is_compiled("depthwise_conv2d"), reason="the operator is not compiled"
)


class Calls(TorchDispatchMode):
    """Notes which operators are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def takes_operator(conv: nn.Module, image: torch.Tensor) -> bool:
    with Calls() as calls:
        conv(image)
    return "d2ext::depthwise_conv2d" in calls.names


def conv_of(**options) -> DepthwiseConv2d:
    torch.manual_seed(0)
    return DepthwiseConv2d(4, 4, 3, padding=(1, 2), groups=4, **options)


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"bias": False, "dilation": (1, 2)}])
def test_output_and_gradients_equal_those_of_conv2d(options):
    own = conv_of(**options)
    plain = nn.Conv2d(4, 4, 3, padding=(1, 2), groups=4, **options)
    plain.load_state_dict(own.state_dict())
    image = torch.rand(2, 4, 6, 7)
    images = [image.clone().requires_grad_() for _ in range(2)]
    for conv, given in zip((own, plain), images, strict=True):
        conv(given).square().sum().backward()
    torch.testing.assert_close(images[0].grad, images[1].grad)
    for found, expected in zip(own.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad)


@compiled
def test_the_operator_runs_where_weights_learn_and_else_pytorch():
    conv, image = conv_of(), torch.rand(1, 4, 6, 7)
    assert takes_operator(conv, image)
    assert not takes_operator(conv.double(), image.double())
    conv.float().weight.requires_grad_(False)
    assert not takes_operator(conv, image.requires_grad_())
    conv.weight.requires_grad_(True)
    with torch.no_grad():
        assert not takes_operator(conv, image)


@compiled
@pytest.mark.parametrize(("stride", "expected"), [(1, False), (2, True)])
def test_frozen_weights_take_the_operator_with_a_stride_in_bfloat16(stride, expected):
    conv, image = conv_of(stride=stride).requires_grad_(False), torch.rand(1, 4, 6, 7)
    with torch.autocast("cpu", torch.bfloat16):
        assert takes_operator(conv, image.requires_grad_()) is expected
        assert not takes_operator(conv, image.detach())


def test_without_the_compiled_operator_pytorch_runs(monkeypatch):
    monkeypatch.setattr(depthwise_conv, "is_compiled", lambda _: False)
    assert not takes_operator(conv_of(), torch.rand(1, 4, 6, 7))


def test_exports_hold_pytorchs_convolution():
    conv, image = conv_of(), torch.rand(1, 4, 6, 7)
    traced = torch.jit.trace(conv, image, check_trace=False)
    assert "depthwise_conv2d" not in str(traced.inlined_graph)
    graph = torch.export.export(conv, (image,)).graph
    assert not [node for node in graph.nodes if "d2ext" in str(node.target)]
    check_export(conv, image, rtol=1e-4, atol=1e-5)


def test_only_plain_depthwise_convolutions_can_be_replaced():
    assert is_plain_depthwise(nn.Conv2d(4, 4, 3, groups=4))
    others = [
        nn.Conv2d(4, 8, 3, groups=4),
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, groups=4, padding="same"),
        nn.Conv2d(4, 4, 3, groups=4, padding=1, padding_mode="reflect"),
        nn.Conv1d(4, 4, 3, groups=4),
    ]
    assert not any(map(is_plain_depthwise, others))
