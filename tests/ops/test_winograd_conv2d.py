"""The operator (compiled where the extension is) and PyTorch's convolution agree."""

import pytest
import torch
from torch.nn import functional as F

from d2ext.ops import EXTENSION_STATE, winograd_conv2d
from tests.helpers.op_export import check_export

SHAPES = [  # B, C, H, W, C', padding
    (2, 3, 7, 9, 5, 1),
    (1, 70, 13, 10, 66, 0),
    (2, 16, 4, 4, 8, 2),
    (3, 1, 1, 1, 1, 1),
    (1, 65, 33, 34, 2, 1),
    (0, 4, 8, 8, 4, 1),
]


def problem(shape, dtype=torch.float64, device="cpu"):
    batch, channels, height, width, outputs, _ = shape
    torch.manual_seed(0)
    sizes = (batch, channels, height, width), (outputs, channels, 3, 3), (outputs,)
    return [torch.randn(s, dtype=dtype, device=device, requires_grad=True) for s in sizes]


@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_and_gradients_equal_a_convolution(shape, device):
    tensors, padding = problem(shape, device=device), shape[-1]
    own = winograd_conv2d(*tensors, padding)
    expected = F.conv2d(*tensors, padding=padding)
    torch.testing.assert_close(own, expected)
    grad = torch.randn_like(expected)
    found = torch.autograd.grad(own, tensors, grad)
    torch.testing.assert_close(found, torch.autograd.grad(expected, tensors, grad))


def test_float32_differs_by_rounding(device):
    tensors = problem((1, 128, 24, 40, 96, 1), torch.float32, device)
    own = winograd_conv2d(*tensors)
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    expected = F.conv2d(*exact, padding=1)
    assert (own - expected).abs().max() < 3e-5 * expected.std()
    grad = torch.randn_like(own)
    pairs = zip(
        torch.autograd.grad(own, tensors, grad),
        torch.autograd.grad(expected, exact, grad.double()),
        strict=True,
    )
    for found, wanted in pairs:
        assert (found - wanted).abs().max() < 5e-5 * wanted.std()


@pytest.mark.parametrize("needed", [(0,), (1,), (2,), (0, 1)])
def test_only_needed_gradients_are_computed(needed):
    tensors = problem(SHAPES[0])
    for index, tensor in enumerate(tensors):
        tensor.requires_grad_(index in needed)
    winograd_conv2d(*tensors).sum().backward()
    assert [tensor.grad is not None for tensor in tensors] == [i in needed for i in range(3)]


def test_any_memory_order_is_read(device):
    images, kernels, bias = problem((2, 6, 9, 8, 4, 1), device=device)
    last = images.detach().to(memory_format=torch.channels_last)
    turned = kernels.detach().transpose(0, 1).contiguous().transpose(0, 1)
    torch.testing.assert_close(
        winograd_conv2d(last, turned, bias), F.conv2d(images, kernels, bias, padding=1)
    )


def test_the_number_of_threads_changes_no_bits():
    tensors = problem((2, 64, 40, 36, 64, 1), torch.float32)
    results, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            own = winograd_conv2d(*tensors)
            results.append([own, *torch.autograd.grad(own.sin().sum(), tensors[:2])])
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, *results))


def test_opcheck_and_gradcheck_pass(device):
    tensors = problem((1, 3, 5, 6, 2, 1), device=device)
    torch.library.opcheck(torch.ops.d2ext.winograd_conv2d.default, (*tensors, 1))
    assert torch.autograd.gradcheck(winograd_conv2d, tensors)
    grad = torch.rand(1, 2, 5, 6, dtype=torch.float64, device=device)
    torch.library.opcheck(
        torch.ops.d2ext.winograd_conv2d_backward.default,
        (grad, tensors[0].detach(), 1),
        test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_dynamic"),
    )


def test_double_backward_raises(device):
    images, kernels, _ = problem((1, 3, 5, 6, 2, 1), device=device)
    (grad,) = torch.autograd.grad(
        winograd_conv2d(images, kernels).pow(2).sum(), kernels, create_graph=True
    )
    with pytest.raises(RuntimeError, match="differentiable once"):
        grad.sum().backward()


def test_wrong_arguments_raise():
    images, kernels, bias = problem(SHAPES[0])
    with pytest.raises(ValueError, match="do not fit each other"):
        winograd_conv2d(images[:, :2], kernels)
    with pytest.raises(ValueError, match="float32 or float64"):
        winograd_conv2d(images.bfloat16(), kernels.bfloat16())
    with pytest.raises(ValueError, match="one dtype"):
        winograd_conv2d(images, kernels.float())
    with pytest.raises(ValueError, match="bias must be"):
        winograd_conv2d(images, kernels, bias[:2])
    with pytest.raises(ValueError, match="padding must be 0 to 2"):
        winograd_conv2d(images, kernels, padding=3)
    with pytest.raises(ValueError, match="at least 3x3"):
        winograd_conv2d(images[..., :2], kernels, padding=0)


compiled = pytest.mark.skipif("compiled" not in EXTENSION_STATE, reason="no compiled kernels")


@compiled
@pytest.mark.parametrize(
    ("images", "kernels", "bias", "padding"),
    [
        ((2, 3, 7, 9), (5, 4, 3, 3), (5,), 1),
        ((2, 3, 7, 9), (5, 3, 3, 2), (5,), 1),
        ((3, 7, 9), (5, 3, 3, 3), (5,), 1),
        ((2, 3, 7, 9), (5, 3, 3, 3), (4,), 1),
        ((2, 3, 7, 9), (5, 3, 3, 3), (5,), -1),
        ((2, 3, 2, 9), (5, 3, 3, 3), (5,), 0),
    ],
)
def test_kernels_called_directly_check_their_arguments(images, kernels, bias, padding):
    with pytest.raises(RuntimeError):
        torch.ops.d2ext.winograd_conv2d(*map(torch.zeros, (images, kernels, bias)), padding)


@compiled
def test_the_gradient_called_directly_checks_its_arguments():
    with pytest.raises(RuntimeError):
        torch.ops.d2ext.winograd_conv2d_backward(
            torch.zeros(1, 4, 6, 6), torch.zeros(1, 3, 7, 6), 1
        )


def test_an_exported_program_holds_a_plain_convolution():
    tensors = problem(SHAPES[0], torch.float32)
    check_export(winograd_conv2d, *tensors, rtol=1e-4, atol=1e-4)
