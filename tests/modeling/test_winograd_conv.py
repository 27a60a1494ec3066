import copy

import pytest
import torch
from torch import nn

from d2ext.modeling import winograd_conv
from d2ext.modeling.folded_conv import fold_frozen_norms
from d2ext.modeling.winograd_conv import WinogradForward, use_winograd
from d2ext.ops import EXTENSION_STATE
from detectron2.layers import Conv2d, get_norm

pytestmark = pytest.mark.skipif("compiled" not in EXTENSION_STATE, reason="no compiled kernels")


def layers():
    return nn.Sequential(
        nn.Conv2d(64, 64, 3, padding=1),
        Conv2d(64, 96, 3, padding=1, norm=get_norm("GN", 96), activation=torch.relu),
        Conv2d(96, 64, 3, padding=1, bias=False, norm=get_norm("FrozenBN", 64)),
    )


@pytest.fixture
def calls(monkeypatch):
    """What was convolved by Winograd's algorithm."""
    found = []

    def record(input, *others):
        found.append(tuple(input.shape))
        return original(input, *others)

    original = winograd_conv.winograd_conv2d
    monkeypatch.setattr(winograd_conv, "winograd_conv2d", record)
    return found


def test_layers_compute_the_same_with_the_same_names(calls):
    torch.manual_seed(0)
    model = layers()
    own = use_winograd(fold_frozen_norms(copy.deepcopy(model)))
    assert own.state_dict().keys() == model.state_dict().keys()
    assert all(isinstance(layer, type(plain)) for layer, plain in zip(own, model, strict=True))
    images = torch.randn(2, 64, 48, 40)
    found, expected = own(images), model(images)
    assert len(calls) == 3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    found.pow(2).sum().backward()
    expected.pow(2).sum().backward()
    for ours, theirs in zip(own.parameters(), model.parameters(), strict=True):
        assert (ours.grad - theirs.grad).abs().max() < 1e-4 * theirs.grad.std() + 1e-4


def test_layers_that_cannot_gain_stay():
    model = nn.Sequential(
        nn.Conv2d(64, 64, 1),
        nn.Conv2d(64, 64, 3, stride=2),
        nn.Conv2d(64, 64, 3, dilation=2),
        nn.Conv2d(64, 64, 3, groups=2),
        nn.Conv2d(64, 63, 3),
        nn.Conv2d(64, 64, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(64, 64, 3, padding="same"),
        type("Own", (nn.Conv2d,), {})(64, 64, 3),
    )
    assert not any(isinstance(layer, WinogradForward) for layer in use_winograd(model))


def test_small_maps_other_types_and_autocast_are_convolved_as_ever(calls):
    layer = use_winograd(nn.Sequential(nn.Conv2d(64, 64, 3, padding=1)))
    large = torch.randn(1, 64, 64, 64)
    layer(torch.randn(1, 64, 20, 20))
    layer(large.to(memory_format=torch.channels_last))
    copy.deepcopy(layer).double()(large.double())
    with torch.autocast("cpu"):
        layer(large)
    assert not calls
    layer(large)
    assert calls == [(1, 64, 64, 64)]


def test_a_traced_layer_holds_a_plain_convolution():
    layer = use_winograd(nn.Sequential(nn.Conv2d(64, 64, 3, padding=1)))
    graph = str(torch.jit.trace(layer, torch.randn(1, 64, 64, 64)).inlined_graph)
    assert "aten::_convolution" in graph
    assert "d2ext::" not in graph
