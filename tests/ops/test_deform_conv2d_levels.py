"""Levels that share weights give what each gives alone."""

import pytest
import torch
from torch import Tensor

from d2ext.ops import deform_conv2d, deform_conv2d_levels
from tests.helpers.op_inputs import FLOATS, assert_rounds_to

SIZES = [(7, 9), (4, 5), (1, 1)]
CHANNELS = 32


def arguments(
    device="cpu", dtype=torch.float64, groups: int = 1, masked: bool = True
) -> list[list[Tensor]]:
    """Return inputs, offsets, [weight, bias] and masks; no position is on the border of a pixel."""
    generator = torch.Generator().manual_seed(7)

    def uniform(*size: int) -> Tensor:
        made = torch.rand(size, generator=generator, dtype=torch.float64)
        return made.to(device, dtype).requires_grad_()

    def offsets(*size: int) -> Tensor:
        whole = torch.randint(-2, 3, size, generator=generator)
        made = whole + torch.rand(size, generator=generator) * 0.8 + 0.1
        return made.to(device, dtype).requires_grad_()

    return [
        [uniform(2, CHANNELS, *size) for size in SIZES],
        [offsets(2, 18, *size) for size in SIZES],
        [uniform(6 * groups, CHANNELS // groups, 3, 3), uniform(6 * groups)],
        [uniform(2, 9, *size) for size in SIZES] if masked else [],
    ]


def together(inputs, offsets, weights, masks) -> list[Tensor]:
    return deform_conv2d_levels(inputs, offsets, *weights, padding=1, masks=masks or None)


def one_by_one(inputs, offsets, weights, masks) -> list[Tensor]:
    return [
        deform_conv2d(*level, *weights, padding=1, mask=mask)
        for *level, mask in zip(inputs, offsets, masks or [None] * 3, strict=True)
    ]


def with_gradients(function, given: list[list[Tensor]]) -> list[Tensor]:
    """Return the outputs and the gradients of all tensors that require one."""
    outputs = function(*given)
    seeds = [torch.linspace(-1, 1, o.numel(), dtype=o.dtype, device=o.device) for o in outputs]
    seeds = [seed.view(output.shape) for seed, output in zip(seeds, outputs, strict=True)]
    leaves = [tensor for some in given for tensor in some if tensor.requires_grad]
    return [*outputs, *torch.autograd.grad(outputs, leaves, seeds)]


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_outputs_and_gradients_equal_those_one_by_one(groups, masked, device):
    given = arguments(device, groups=groups, masked=masked)
    found, expected = (with_gradients(function, given) for function in (together, one_by_one))
    for own, alone in zip(found, expected, strict=True):
        torch.testing.assert_close(own, alone)


@pytest.mark.parametrize("float_weights", [False, True])
@pytest.mark.parametrize("dtype", FLOATS)
def test_every_dtype_differs_from_double_by_rounding(dtype, float_weights, device):
    given = arguments(device, dtype)
    if float_weights and dtype.itemsize == 2:
        given[2] = [tensor.detach().float().requires_grad_() for tensor in given[2]]
    exact = [[t.detach().double().requires_grad_() for t in some] for some in given]
    found, expected = with_gradients(together, given), with_gradients(one_by_one, exact)
    assert [t.dtype for t in found[3:]] == [t.dtype for some in given for t in some]
    roundings = 4 if dtype.itemsize == 2 else 50  # samples and sums are rounded
    for own, theirs in zip(found, expected, strict=True):
        assert_rounds_to(own, theirs, dtype, roundings)


@pytest.mark.parametrize("needed", [[0], [1], [2], [3], [0, 2]])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_gradients_of_some_arguments_equal_those_of_all(dtype, needed, device):
    given = arguments(device, dtype)
    expected = with_gradients(together, given)[3:]
    some = [[t.detach().requires_grad_(i in needed) for t in g] for i, g in enumerate(given)]
    kept = [i in needed for i, tensors in enumerate(given) for _ in tensors]
    expected = [grad for grad, keep in zip(expected, kept, strict=True) if keep]
    for own, theirs in zip(with_gradients(together, some)[3:], expected, strict=True):
        torch.testing.assert_close(own, theirs)


def test_channels_last_levels_give_the_same_result(device):
    given = arguments(device, torch.float32)
    last = [t.detach().contiguous(memory_format=torch.channels_last) for t in given[0]]
    expected = with_gradients(together, given)
    found = with_gradients(together, [[t.requires_grad_() for t in last], *given[1:]])
    for own, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(own, theirs)


def test_autocast_casts_the_maps_but_not_the_weights(device):
    inputs, *others = arguments(device, torch.float32)
    with torch.autocast(device.type, torch.bfloat16):
        found = together(inputs, *others)
    expected = together([level.bfloat16() for level in inputs], *others)
    assert all(map(torch.equal, found, expected))
    assert {level.dtype for level in found} == {torch.bfloat16}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck_passes(dtype, device):
    inputs, offsets, weights, masks = arguments(device, dtype)
    given = inputs, offsets, *weights, masks, [1, 1], [1, 1], [1, 1]
    torch.library.opcheck(torch.ops.d2ext.deform_conv2d_levels.default, given, atol=1e-4, rtol=1e-4)


def test_double_backward_raises(device):
    given = arguments(device)
    (grad,) = torch.autograd.grad(together(*given)[0].sum(), given[2][0], create_graph=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        grad.sum().backward()


def test_a_traced_graph_holds_one_convolution_per_level():
    given = arguments(dtype=torch.float32)
    inputs, offsets, weights, masks = ([t.detach() for t in tensors] for tensors in given)

    def step(*levels: Tensor) -> list[Tensor]:
        return together(list(levels), offsets, weights, masks)

    graph = torch.jit.trace(step, tuple(inputs), check_trace=False).graph
    kinds = [node.kind() for node in graph.nodes()]
    assert kinds.count("d2ext::deform_conv2d") == len(SIZES)


def test_no_level_gives_none():
    assert deform_conv2d_levels([], [], torch.rand(2, 2, 3, 3)) == []


def test_levels_that_do_not_fit_each_other_raise_value_error():
    inputs, offsets, weights, masks = arguments(dtype=torch.float32)
    with pytest.raises(ValueError, match="offset must be"):
        together(inputs, offsets[::-1], weights, masks)
    with pytest.raises(ValueError, match="expected one dtype"):
        together([*inputs[:2], inputs[2].double()], offsets, weights, masks)
    with pytest.raises(ValueError, match="zip"):
        together(inputs, offsets, weights, masks[:2])
