"""The operator (compiled where the extension is) equals frozen batch norm and its activation."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from d2ext.ops import channel_affine
from tests.helpers.op_export import check_export
from tests.helpers.op_inputs import FLOATS, assert_rounds_to, unaligned

BOUNDS = [(-math.inf, math.inf), (0.0, math.inf), (0.0, 0.5)]
SIZES = [(2, 21, 5, 4), (1, 48, 3, 70), (3, 1, 1, 1), (0, 4, 2, 2), (1, 16, 200, 41)]


def tensors(size=(2, 21, 5, 4), device="cpu", dtype=torch.float64) -> list[Tensor]:
    """Return the input, which requires a gradient, scale and shift."""
    generator = torch.Generator().manual_seed(7)
    shapes = size, size[1:2], size[1:2]
    made = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    made = [tensor.to(device, dtype) for tensor in made]
    return [made[0].requires_grad_(), *made[1:]]


def plain(input: Tensor, scale: Tensor, shift: Tensor, low: float, high: float) -> Tensor:
    zeros, variances = torch.zeros_like(scale), torch.full_like(scale, 0.75)
    # Variance and eps are 1 together; PyTorch 2.10 refuses an eps of 0.
    normed = F.batch_norm(input, zeros, variances, scale, shift, eps=0.25)
    return F.hardtanh(normed, low, high) if (low, high) != BOUNDS[0] else normed


def with_gradient(function, input: Tensor, *others) -> list[Tensor]:
    output = function(input, *others)
    seed = torch.linspace(-1, 1, output.numel(), device=output.device, dtype=output.dtype)
    return [output, *torch.autograd.grad(output, input, seed.view(output.shape))]


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("size", SIZES)
def test_output_and_gradient_equal_those_of_frozen_batch_norm(size, bounds, device):
    inputs = tensors(size, device)
    expected = with_gradient(plain, *inputs, *bounds)
    for own, theirs in zip(with_gradient(channel_affine, *inputs, *bounds), expected, strict=True):
        torch.testing.assert_close(own, theirs)


@pytest.mark.parametrize("float_factors", [False, True])
@pytest.mark.parametrize("dtype", FLOATS)
def test_every_dtype_differs_by_rounding(dtype, float_factors, device):
    input, scale, shift = (t.detach() for t in tensors(device=device, dtype=dtype))
    if float_factors and dtype.itemsize == 2:
        scale, shift = scale.float() + 1e-3, shift.float() + 1e-3
    given = input.requires_grad_(), scale, shift
    exact = input.detach().double().requires_grad_(), scale.double(), shift.double()
    found = with_gradient(channel_affine, *given, 0.0, 6.0)
    assert {t.dtype for t in found} == {dtype}
    for own, theirs in zip(found, with_gradient(plain, *exact, 0.0, 6.0), strict=True):
        assert_rounds_to(own, theirs, dtype, 2 if dtype.itemsize == 2 else 10)


def test_bounds_are_reached_and_stop_the_gradient():
    input = torch.tensor([-1.0, 0.25, 0.5, 9.0]).view(1, 1, 1, 4).requires_grad_()
    output = channel_affine(input, torch.tensor([2.0]), torch.tensor([0.0]), 0.0, 1.0)
    assert output.flatten().tolist() == [0.0, 0.5, 1.0, 1.0]
    output.sum().backward()
    assert input.grad.flatten().tolist() == [0.0, 2.0, 0.0, 0.0]


def test_nan_stays_nan(device):
    input = torch.full((1, 3, 2, 2), math.nan, device=device)
    ones = torch.ones(3, device=device)
    assert channel_affine(input, ones, ones, 0.0, 6.0).isnan().all()


def test_opcheck_and_gradcheck_pass(device):
    inputs = tensors((2, 3, 3, 4), device)
    torch.library.opcheck(torch.ops.d2ext.channel_affine.default, (*inputs, 0.0, 6.0))
    input, scale, _ = (t.detach() for t in inputs)
    torch.library.opcheck(
        torch.ops.d2ext.channel_affine_backward.default,
        (input, input, scale, 0.0, 6.0),
        test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_dynamic"),
    )
    assert torch.autograd.gradcheck(lambda t: channel_affine(t, *inputs[1:], 0.0, 6.0), inputs[0])


def test_export_as_program_and_onnx_gives_equal_output():
    inputs = tensors(dtype=torch.float32)
    check_export(lambda *t: channel_affine(*t, 0.0, 6.0), *inputs, rtol=1e-4, atol=1e-5)


def test_memory_order_does_not_change_the_result(device):
    input, *others = tensors(device=device)
    expected = with_gradient(channel_affine, input, *others, 0.0, 6.0)
    for order in (input.contiguous(memory_format=torch.channels_last), unaligned(input)):
        given = order.detach().requires_grad_()
        for own, theirs in zip(
            with_gradient(channel_affine, given, *others, 0.0, 6.0), expected, strict=True
        ):
            torch.testing.assert_close(own, theirs)


def test_an_activation_may_follow_in_place(device):
    input, *others = tensors(device=device)
    expected = with_gradient(lambda *t: F.relu(plain(*t, *BOUNDS[0])), input, *others)
    found = with_gradient(lambda *t: F.relu_(channel_affine(*t)), input, *others)
    for own, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(own, theirs)


def test_double_backward_raises():
    input, *others = tensors()
    output = channel_affine(input, *others, 0.0, 6.0)
    (grad,) = torch.autograd.grad(output.square().sum(), input, create_graph=True)
    with pytest.raises(RuntimeError, match="channel_affine is differentiable once"):
        grad.sum().backward()


def test_arguments_that_do_not_fit_are_refused():
    image, factors = torch.zeros(1, 3, 2, 2), torch.zeros(3)
    for bad in ((image[0], factors, factors), (image, factors[:2], factors[:2])):
        with pytest.raises(ValueError, match=r"scale and shift \(C,\)"):
            channel_affine(*bad)
    with pytest.raises(ValueError, match="detach them"):
        channel_affine(image, factors.requires_grad_(), factors)
