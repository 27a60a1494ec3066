"""The operator (compiled where the extension is) and PyTorch's grouped convolution agree."""

import math
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from d2ext.ops import depthwise_conv2d
from tests.helpers.op_export import check_export
from tests.helpers.op_inputs import FLOATS, assert_rounds_to, unaligned


class Case(NamedTuple):
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (1, 1, 1, 1)  # left, right, top, bottom
    dilation: tuple[int, int] = (1, 1)
    biased: bool = True
    size: tuple[int, int, int, int] = (2, 21, 7, 9)

    @property
    def geometry(self) -> tuple:
        return self.stride, self.padding, self.dilation


CASES = [
    Case(),
    Case(biased=False),
    Case(kernel=(5, 5), padding=(2, 2, 2, 2)),
    Case(kernel=(5, 5), padding=(1, 2, 1, 2), stride=(2, 2), size=(1, 16, 11, 12)),
    Case(stride=(2, 2), padding=(0, 1, 0, 1), size=(2, 40, 8, 10)),
    Case(stride=(2, 2)),
    Case(kernel=(2, 7), stride=(3, 1), padding=(5, 0, 1, 2)),
    Case(kernel=(1, 1), padding=(0, 0, 0, 0), stride=(2, 3)),
    Case(dilation=(2, 3), stride=(2, 1), padding=(3, 3, 2, 2)),
    Case(padding=(9, 0, 0, 9), stride=(2, 2)),  # rows and columns that read zeros alone
    Case(size=(3, 1, 1, 1)),
    Case(size=(1, 8, 70, 31)),  # several parts of the work, several tiles of a row
    Case(size=(1, 3, 1, 64), padding=(1, 1, 1, 1)),
    Case(size=(0, 8, 7, 9)),
]


def tensors(case: Case, device="cpu", dtype=torch.float64) -> list[Tensor | None]:
    """Return input, weight and bias."""
    generator = torch.Generator().manual_seed(7)
    channels = case.size[1]
    sizes = case.size, (channels, 1, *case.kernel), (channels,)
    made = [torch.rand(size, generator=generator, dtype=torch.float64) - 0.5 for size in sizes]
    made = [tensor.to(device, dtype).requires_grad_() for tensor in made]
    return [*made[:2], made[2] if case.biased else None]


def with_gradients(function, tensors: list[Tensor | None], *geometry) -> list[Tensor]:
    """Return the output and the gradients of all tensors that require one."""
    output = function(*tensors, *geometry)
    seed = torch.linspace(-1, 1, output.numel(), device=output.device, dtype=output.dtype)
    leaves = [t for t in tensors if t is not None and t.requires_grad]
    return [output, *torch.autograd.grad(output, leaves, seed.view(output.shape))]


def ours(input, weight, bias, stride, padding, dilation):
    return depthwise_conv2d(input, weight, bias, stride=stride, padding=padding, dilation=dilation)


def pytorchs(input, weight, bias, stride, padding, dilation):
    return F.conv2d(F.pad(input, padding), weight, bias, stride, 0, dilation, input.shape[1])


@pytest.mark.parametrize("case", CASES)
def test_output_and_gradients_equal_pytorchs(case, device):
    inputs = tensors(case, device)
    expected = with_gradients(pytorchs, inputs, *case.geometry)
    for own, theirs in zip(with_gradients(ours, inputs, *case.geometry), expected, strict=True):
        torch.testing.assert_close(own, theirs)


@pytest.mark.parametrize("case", [Case(), Case(stride=(2, 2), kernel=(5, 5), biased=False)])
@pytest.mark.parametrize("dtype", FLOATS)
def test_every_dtype_differs_from_pytorch_by_rounding(dtype, case, device):
    given = [t if t is None else t.detach() for t in tensors(case, device, dtype)]
    exact = [t if t is None else t.double().requires_grad_() for t in given]
    given = [t if t is None else t.requires_grad_() for t in given]
    found = with_gradients(ours, given, *case.geometry)
    assert {t.dtype for t in found} == {dtype}
    expected = with_gradients(pytorchs, exact, *case.geometry)
    for own, theirs in zip(found, expected, strict=True):
        assert_rounds_to(own, theirs, dtype, 2 if dtype.itemsize == 2 else 20)


def test_the_left_column_of_padding_is_zeros():
    image = torch.ones(1, 1, 2, 3)
    output = depthwise_conv2d(image, torch.ones(1, 1, 1, 2), padding=(1, 0, 0, 0))
    assert output.tolist() == [[[[1.0, 2.0, 2.0], [1.0, 2.0, 2.0]]]]


def test_paddings_of_one_two_and_four_numbers_agree():
    input, weight, _ = tensors(Case())
    expected = depthwise_conv2d(input, weight, padding=(1, 1, 1, 1))
    assert torch.equal(depthwise_conv2d(input, weight, padding=1), expected)
    assert torch.equal(depthwise_conv2d(input, weight, padding=(1, 1)), expected)
    tall = depthwise_conv2d(input, weight, padding=(3, 0))
    assert torch.equal(depthwise_conv2d(input, weight, padding=(0, 0, 3, 3)), tall)


@pytest.mark.parametrize("needed", [0, 1, 2])
def test_each_gradient_alone_equals_that_beside_the_others(needed, device):
    inputs = tensors(Case(stride=(2, 2)), device)
    _, *expected = with_gradients(ours, inputs, *Case(stride=(2, 2)).geometry)
    alone = [t.detach().requires_grad_(i == needed) for i, t in enumerate(inputs)]
    _, found = with_gradients(ours, alone, *Case(stride=(2, 2)).geometry)
    torch.testing.assert_close(found, expected[needed])


def test_gradients_that_are_not_needed_are_empty(device):
    input, weight, _ = (t.detach() for t in tensors(Case(), device))
    backward = torch.ops.d2ext.depthwise_conv2d_backward
    for needs in ((True, False), (False, True), (False, False)):
        grads = backward(input, input, weight, *Case().geometry, *needs)
        assert [grad.numel() > 0 for grad in grads] == list(needs)


@pytest.mark.parametrize(
    "case",
    [Case(size=(2, 3, 3, 4)), Case(size=(1, 2, 5, 4), stride=(2, 2), kernel=(5, 5), biased=False)],
)
def test_opcheck_and_gradcheck_pass(case, device):
    inputs = tensors(case, device)
    torch.library.opcheck(torch.ops.d2ext.depthwise_conv2d.default, (*inputs, *case.geometry))
    input, weight, _ = (t if t is None else t.detach() for t in inputs)
    grad = torch.rand_like(ours(*inputs, *case.geometry)).detach()
    for needs in ((True, True), (True, False), (False, True)):
        torch.library.opcheck(
            torch.ops.d2ext.depthwise_conv2d_backward.default,
            (grad, input, weight, *case.geometry, *needs),
            test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_dynamic"),
        )
    assert torch.autograd.gradcheck(ours, (*inputs, *case.geometry))


@pytest.mark.parametrize("case", [Case(), Case(kernel=(5, 5), stride=(2, 2), biased=False)])
def test_export_as_program_and_onnx_gives_equal_output(case):
    inputs = tensors(case, dtype=torch.float32)

    def function(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return ours(input, weight, bias, *case.geometry)

    check_export(function, *(t for t in inputs if t is not None), rtol=1e-4, atol=1e-5)


def test_memory_format_does_not_change_the_result(device):
    inputs = tensors(Case(), device)
    expected = with_gradients(ours, inputs, *Case().geometry)
    strided = [t.detach().mT.contiguous().mT.requires_grad_() for t in inputs[:2]] + inputs[2:]
    last = [t.detach().contiguous(memory_format=torch.channels_last) for t in inputs[:2]]
    for given in (strided, [t.requires_grad_() for t in last] + inputs[2:]):
        for own, theirs in zip(
            with_gradients(ours, given, *Case().geometry), expected, strict=True
        ):
            torch.testing.assert_close(own, theirs)


@pytest.mark.parametrize("dtype", FLOATS)
def test_unaligned_tensors_give_the_same_result(dtype, device):
    inputs = tensors(Case(size=(1, 32, 5, 6)), device, dtype)
    inputs[0] = inputs[0].detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    shifted = [unaligned(t).requires_grad_() for t in inputs]
    expected = with_gradients(ours, inputs, *Case().geometry)
    for own, theirs in zip(with_gradients(ours, shifted, *Case().geometry), expected, strict=True):
        torch.testing.assert_close(own, theirs)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_number_of_threads_does_not_change_the_bits(threads):
    if not torch._C._dispatch_has_kernel_for_dispatch_key("d2ext::depthwise_conv2d", "CPU"):
        pytest.skip("PyTorch's own convolution promises nothing")
    inputs = tensors(Case(size=(3, 48, 40, 9)), dtype=torch.float32)
    usual = torch.get_num_threads()
    expected = with_gradients(ours, inputs, *Case().geometry)
    torch.set_num_threads(threads)
    found = with_gradients(ours, inputs, *Case().geometry)
    torch.set_num_threads(usual)
    for own, first in zip(found, expected, strict=True):
        assert torch.equal(own, first)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_strange_pixel_affects_only_outputs_that_read_it(value, device):
    image = torch.zeros(1, 2, 6, 6, device=device)
    image[0, 0, 0, 0] = value
    output = depthwise_conv2d(image, torch.ones(2, 1, 3, 3, device=device), padding=1)
    assert not output[0, 0, :2, :2].isfinite().any()
    output[0, 0, :2, :2] = 0
    assert not output.any()


def test_autocast_casts_all_tensors(device):
    input, weight, bias = (t.detach().float() for t in tensors(Case(), device))
    half = [t.bfloat16() for t in (input, weight, bias)]
    operator = torch.ops.d2ext.depthwise_conv2d
    with torch.autocast(device.type, torch.bfloat16):
        output = ours(input, weight, bias, *Case().geometry)
        inner = operator(input, weight, bias, *Case().geometry)
        exact = operator(input.double(), weight.double(), bias.double(), *Case().geometry)
    assert torch.equal(output, ours(*half, *Case().geometry))
    assert torch.equal(inner, output)
    assert exact.dtype == torch.float64


def test_torch_compile_has_no_graph_break(device):
    inputs = [t.detach().float().requires_grad_() for t in tensors(Case(), device)]
    geometry = Case().geometry

    def step(*inputs: Tensor) -> Tensor:
        return ours(*inputs, *geometry).sin()

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    expected = with_gradients(step, inputs)
    for own, theirs in zip(with_gradients(compiled, inputs), expected, strict=True):
        torch.testing.assert_close(own, theirs)


def test_an_activation_may_follow_in_place(device):
    inputs = tensors(Case(), device)
    output = ours(*inputs, *Case().geometry).relu_()
    expected = pytorchs(*inputs, *Case().geometry).relu()
    torch.testing.assert_close(output, expected)
    output.sum().backward()


def test_double_backward_raises(device):
    inputs = tensors(Case(), device)
    output = ours(*inputs, *Case().geometry)
    (grad,) = torch.autograd.grad(output.square().sum(), inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match="depthwise_conv2d is differentiable once"):
        grad.sum().backward()


@pytest.mark.parametrize(
    ("weight", "bias", "options", "message"),
    [
        ((3, 2, 3, 3), None, {}, r"weight \(C, 1, kh, kw\)"),
        ((2, 1, 3, 3), None, {}, r"weight \(C, 1, kh, kw\)"),
        ((3, 1, 3, 3), (2,), {}, r"bias must be \(3,\)"),
        ((3, 1, 3, 3), None, {"stride": 0}, "too small"),
        ((3, 1, 3, 3), None, {"padding": -1}, "too small"),
        ((3, 1, 5, 5), None, {}, "larger than the input"),
        ((3, 1, 3, 3), None, {"dilation": 2, "padding": (0, 0, 1, 1)}, "larger than the input"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(weight, bias, options, message):
    terms = None if bias is None else torch.zeros(bias)
    with pytest.raises(ValueError, match=message):
        depthwise_conv2d(torch.zeros(1, 3, 4, 4), torch.zeros(weight), terms, **options)
