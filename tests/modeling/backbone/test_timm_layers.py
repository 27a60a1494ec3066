import pytest
import timm
import torch
from torch import nn

from d2ext.layers import DepthwiseConv2d, FastFrozenNorm, depthwise_conv, frozen_norm
from d2ext.modeling.backbone.timm_layers import replace_slow_layers

NAMES = ["tf_efficientnet_lite0", "mobilenetv3_small_050", "regnetx_002", "resnet10t"]


@pytest.mark.parametrize("size", [(64, 64), (75, 93)])
@pytest.mark.parametrize("name", NAMES)
def test_replaced_layers_give_timms_maps_and_gradients(name, size, monkeypatch):
    torch.manual_seed(0)
    model = timm.create_model(name, features_only=True, out_indices=(1, 2)).eval()
    names = list(model.state_dict())
    replace_slow_layers(model)
    assert list(model.state_dict()) == names
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.requires_grad_(False)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
        nn.init.uniform_(norm.running_mean, -0.2, 0.2)
    assert all(isinstance(norm, FastFrozenNorm) for norm in norms)
    image = torch.rand(1, 3, *size).contiguous(memory_format=torch.channels_last)
    leaves = [value for value in model.parameters() if value.requires_grad][:8]

    def maps_and_gradients() -> list[torch.Tensor]:
        maps = model(image)
        return [*maps, *torch.autograd.grad(maps[-1].square().mean(), leaves)]

    found = maps_and_gradients()
    for module in (depthwise_conv, frozen_norm):
        monkeypatch.setattr(module, "is_compiled", lambda _: False)
    for own, expected in zip(found, maps_and_gradients(), strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-3, atol=1e-5)


def test_depthwise_convolutions_are_replaced_and_the_others_kept():
    model = timm.create_model("tf_efficientnet_lite0", features_only=True)
    replace_slow_layers(model)
    convs = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert {isinstance(conv, DepthwiseConv2d) for conv in convs if conv.groups > 1} == {True}
    assert {isinstance(conv, DepthwiseConv2d) for conv in convs if conv.groups == 1} == {False}


def test_norms_with_other_activations_are_left_to_timm():
    model = timm.create_model("mobilenetv3_small_050", features_only=True)
    replace_slow_layers(model)
    bounds = [module.bounds() for module in model.modules() if isinstance(module, FastFrozenNorm)]
    assert None in bounds  # hard swish
    assert (0.0, float("inf")) in bounds
