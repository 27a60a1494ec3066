import torch
from torch import nn

from d2ext.modeling.deploy import ConvChain, fuse_for_inference, fuse_norms
from d2ext.modeling.folded_conv import fold_frozen_norms
from detectron2.layers import Conv2d, get_norm


def trained(layer: Conv2d) -> Conv2d:
    """With statistics that are not those it started from."""
    generator = torch.Generator().manual_seed(0)
    for value in (layer.norm.running_mean, layer.norm.running_var, layer.norm.weight):
        value.data.uniform_(0.5, 2.0, generator=generator)
    return layer.eval()


def test_a_fused_model_computes_the_same_without_norms():
    model = nn.Sequential(
        trained(Conv2d(3, 8, 3, bias=False, norm=get_norm("BN", 8), activation=torch.relu)),
        trained(Conv2d(8, 8, 3, groups=8, bias=True, norm=get_norm("BN", 8))),
    ).eval()
    images = torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        expected = model(images)
        found = fuse_norms(model)(images)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def test_other_norms_stay():
    group = Conv2d(3, 32, 1, bias=False, norm=get_norm("GN", 32))
    fuse_norms(nn.Sequential(group))
    assert isinstance(group.norm, nn.GroupNorm)


def test_frozen_norms_are_fused_whether_folded_or_not():
    layers = [trained(Conv2d(3, 8, 3, bias=b, norm=get_norm("FrozenBN", 8))) for b in (True, False)]
    images = torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        expected = [layer(images) for layer in layers]
        fold_frozen_norms(layers[0])
        found = [fuse_norms(nn.Sequential(layer))(images) for layer in layers]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert all(set(layer.state_dict()) == {"weight", "bias"} for layer in layers)


def test_a_conv_chain_computes_the_same_with_the_same_weights():
    chain = nn.Sequential(
        trained(Conv2d(3, 8, 3, stride=2, bias=False, norm=get_norm("BN", 8))),
        trained(Conv2d(8, 8, 1, groups=8, norm=get_norm("BN", 8), activation=torch.relu)),
    )
    model = nn.Sequential(chain, nn.ReLU()).eval()
    images = torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        expected = model(images)
        found = fuse_for_inference(model)(images)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert isinstance(model[0], ConvChain)
    assert set(model.state_dict()) == {f"0.{i}.{name}" for i in "01" for name in ("weight", "bias")}


def test_a_chain_follows_to_another_type():
    chain = ConvChain(Conv2d(3, 4, 1), Conv2d(4, 2, 1)).double()
    assert chain(torch.ones(1, 3, 2, 2, dtype=torch.float64)).dtype == torch.float64


def test_layers_that_keep_their_norm_are_not_chained():
    model = nn.Sequential(nn.Sequential(Conv2d(3, 32, 1, bias=False, norm=get_norm("GN", 32))))
    assert not isinstance(fuse_for_inference(model)[0], ConvChain)
