"""Dropout and what it keeps for the backward pass."""

import pytest
import torch

from d2ext.modeling.transformer import Dropout, FeedForward


def kept_bytes(module: torch.nn.Module, inputs: torch.Tensor) -> int:
    """Bytes of the different storages that the graph of `module` keeps, parameters aside."""
    storages = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = module(inputs)
    del output
    return sum(size for size, _ in storages.values())


def test_elements_are_dropped_at_the_rate_and_the_others_scaled():
    inputs = torch.ones(100, 100, requires_grad=True)
    output = Dropout(0.2)(inputs)
    assert output.unique().tolist() == [0.0, 1.25]
    assert (output == 0).float().mean().item() == pytest.approx(0.2, abs=0.02)
    output.sum().backward()
    torch.testing.assert_close(inputs.grad, output.detach())


@pytest.mark.parametrize("rate", [1e-4, 0.1, 0.5, 0.9])
def test_each_element_is_dropped_by_itself_with_the_probability_asked_for(rate):
    torch.manual_seed(0)
    count = 10**6 + 3
    dropped = (Dropout(rate)(torch.ones(count)) == 0).double()
    deviation = (rate * (1 - rate)) ** 0.5
    assert abs(dropped.mean().item() - rate) < 4 * deviation / count**0.5
    for distance in (1, 2, 3, 4):
        together = (dropped[:-distance] * dropped[distance:]).mean().item()
        assert abs(together - rate**2) < 6 * rate * deviation / count**0.5 + 4e-6


def test_all_is_dropped_at_rate_1():
    assert not Dropout(1.0)(torch.ones(100)).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_relu_after_dropout_has_the_values_and_gradients_of_both(dtype):
    inputs = torch.randn(50, 64, dtype=dtype, requires_grad=True)
    module = Dropout(0.3)
    torch.manual_seed(1)
    module.then_relu(inputs.clone()).square().sum().backward()
    found, inputs.grad = inputs.grad, None
    torch.manual_seed(1)
    module(inputs).relu().square().sum().backward()
    torch.testing.assert_close(found, inputs.grad)


@pytest.mark.parametrize("module", [Dropout(0.5).eval(), Dropout(0.0)])
def test_nothing_is_dropped_in_evaluation_or_at_rate_0(module):
    inputs = torch.randn(8)
    assert module(inputs) is inputs


def test_the_feed_forward_part_keeps_its_hidden_layer_once():
    torch.manual_seed(0)
    part = FeedForward(16, 1024, dropout=0.1)
    hidden = 100 * 1024
    kept = kept_bytes(part, torch.randn(100, 16, requires_grad=True))
    assert 4 * hidden <= kept < 5 * hidden  # the activation in float32, and no mask


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_the_order_of_activation_and_dropout_changes_nothing(activation):
    torch.manual_seed(0)
    part = FeedForward(8, 64, 0.3, activation)
    inputs = torch.randn(50, 8)
    torch.manual_seed(1)
    found = part(inputs)
    torch.manual_seed(1)
    hidden = part.dropout(part.activation(part.linear1(inputs)))
    torch.testing.assert_close(found, part.dropout(part.linear2(hidden)))


def test_training_compiles_without_graph_breaks():
    part = FeedForward(8, 64, 0.3)
    inputs = torch.randn(5, 8, requires_grad=True)
    torch.compile(part, backend="eager", fullgraph=True)(inputs).sum().backward()
    assert inputs.grad is not None
