"""The operator (compiled where the extension is), the reference and torchvision agree."""

import math
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from d2ext.ops import deform_conv2d, reference
from tests.helpers.op_export import check_export
from tests.helpers.op_inputs import FLOATS, assert_rounds_to, unaligned


class Case(NamedTuple):
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    offset_groups: int = 1
    masked: bool = True
    biased: bool = True
    outputs: int = 2  # of a group
    size: tuple[int, int, int, int] = (2, 8, 7, 9)

    @property
    def geometry(self) -> tuple:
        return self.stride, self.padding, self.dilation


CASES = [
    Case(),
    Case(masked=False, biased=False),
    Case(kernel=(1, 1), padding=(0, 0)),
    Case(kernel=(2, 3), stride=(2, 1), padding=(0, 2)),
    Case(stride=(2, 2), dilation=(1, 2), padding=(1, 2)),
    Case(groups=2, offset_groups=4),
    Case(groups=4, offset_groups=2, masked=False),
    Case(groups=8, offset_groups=1),
    Case(size=(1, 150, 4, 5), groups=3),  # several vectors of channels and a rest
    Case(size=(1, 300, 3, 4), outputs=85),  # several panels of channels, in and out, and a rest
    Case(size=(3, 4, 1, 1)),
    Case(size=(1, 8, 6, 5), kernel=(5, 5), padding=(2, 2), groups=2),
    Case(size=(0, 8, 7, 9)),
]


def tensors(case: Case, device="cpu", dtype=torch.float64) -> list[Tensor | None]:
    """Return input, offset, weight, bias and mask; positions stay off the borders of pixels."""
    generator = torch.Generator().manual_seed(7)
    batch, channels, height, width = case.size
    taps, out_channels = case.kernel[0] * case.kernel[1], case.outputs * case.groups
    out = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip((height, width), case.kernel, *case.geometry, strict=True)
    ]

    def uniform(*size: int) -> Tensor:
        return torch.rand(size, generator=generator, dtype=torch.float64)

    groups = case.offset_groups
    whole = torch.randint(-2, 3, (batch, 2 * groups * taps, *out), generator=generator)
    made = [
        uniform(*case.size) - 0.5,
        whole + uniform(*whole.shape) * 0.8 + 0.1,
        uniform(out_channels, channels // case.groups, *case.kernel) - 0.5,
        uniform(out_channels) if case.biased else None,
        uniform(batch, groups * taps, *out) if case.masked else None,
    ]
    return [None if t is None else t.to(device, dtype).requires_grad_() for t in made]


def with_gradients(function, tensors: list[Tensor | None], *geometry) -> list[Tensor]:
    """Return the output and the gradients of all tensors that require one."""
    output = function(*tensors, *geometry)
    seed = torch.linspace(-1, 1, output.numel(), device=output.device, dtype=output.dtype)
    leaves = [t for t in tensors if t is not None]
    return [output, *torch.autograd.grad(output, leaves, seed.view(output.shape))]


def ours(input, offset, weight, bias, mask, stride, padding, dilation):
    return deform_conv2d(
        input, offset, weight, bias, stride=stride, padding=padding, dilation=dilation, mask=mask
    )


def torchvisions(input, offset, weight, bias, mask, *geometry):
    return torchvision.ops.deform_conv2d(input, offset, weight, bias, *geometry, mask)


@pytest.mark.parametrize("case", CASES)
def test_output_and_gradients_equal_torchvisions(case, device):
    inputs = tensors(case, device)
    expected = with_gradients(torchvisions, inputs, *case.geometry)
    for own, theirs in zip(with_gradients(ours, inputs, *case.geometry), expected, strict=True):
        torch.testing.assert_close(own, theirs)


@pytest.mark.parametrize("case", CASES)
def test_reference_equals_torchvision(case, device):
    inputs = tensors(case, device)
    output, *grads = with_gradients(torchvisions, inputs, *case.geometry)
    with torch.no_grad():
        own = reference.deform_conv2d(*inputs, *case.geometry)
    torch.testing.assert_close(own, output)
    input, offset, weight, _, mask = inputs
    seed = torch.linspace(-1, 1, output.numel(), device=device, dtype=output.dtype)
    own_grads = reference.deform_conv2d_backward(
        seed.view(output.shape), input, offset, weight, mask, *case.geometry
    )
    expected = [*grads[:3], grads[-1]] if case.masked else grads[:3]
    for own, theirs in zip(own_grads, expected, strict=False):
        torch.testing.assert_close(own, theirs)


def test_integer_offsets_convolve_the_shifted_image(device):
    image = torch.rand(1, 1, 5, 6, device=device)
    weight = torch.rand(1, 1, 3, 3, device=device)
    offset = torch.tensor([1.0, -2.0], device=device).repeat(9).view(1, 18, 1, 1)
    shifted = F.pad(image, (2, 0, 0, 1))[..., 1:, :6]  # one up, two to the right
    torch.testing.assert_close(
        deform_conv2d(image, offset.expand(-1, -1, 5, 6).contiguous(), weight, padding=1)[
            ..., 1:-1, 1:-1
        ],
        F.conv2d(shifted, weight, padding=1)[..., 1:-1, 1:-1],
    )


def test_a_tap_between_four_pixels_reads_their_mean():
    image = torch.tensor([[[[1.0, 2.0], [3.0, 5.0]]]])
    offset = torch.tensor([0.25, 0.5]).view(1, 2, 1, 1).expand(-1, -1, 2, 2)
    output = deform_conv2d(image, offset, torch.ones(1, 1, 1, 1))
    # Upper left: 3/4 of (1 + 2) / 2 and 1/4 of (3 + 5) / 2. Lower right: zeros lie outside.
    torch.testing.assert_close(output[0, 0, 0, 0], torch.tensor(2.125))
    torch.testing.assert_close(output[0, 0, 1, 1], torch.tensor(5.0 * 0.75 * 0.5))


@pytest.mark.parametrize(
    ("case", "needed"),
    [
        (Case(size=(2, 4, 3, 4), groups=2, offset_groups=2), (True, True, True)),
        (
            Case(size=(1, 2, 4, 4), stride=(2, 2), masked=False, biased=False),
            (False, True, False),
        ),
    ],
)
def test_opcheck_and_gradcheck_pass(case, needed, device):
    inputs = tensors(case, device)
    torch.library.opcheck(torch.ops.d2ext.deform_conv2d.default, (*inputs, *case.geometry))
    input, offset, weight, _, mask = (t if t is None else t.detach() for t in inputs)
    grad = torch.rand_like(ours(*inputs, *case.geometry)).detach()
    torch.library.opcheck(
        torch.ops.d2ext.deform_conv2d_backward.default,
        (grad, input, offset, weight, mask, *case.geometry, *needed),
        test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_dynamic"),
    )
    assert torch.autograd.gradcheck(ours, (*inputs, *case.geometry))


@pytest.mark.parametrize(
    "case",
    [
        Case(groups=2, offset_groups=4),
        Case(kernel=(2, 3), stride=(2, 1), padding=(0, 2), dilation=(1, 2)),
        Case(size=(1, 4, 1, 1), masked=False, biased=False),
    ],
)
def test_export_as_program_and_onnx_gives_equal_output(case):
    inputs = tensors(case, dtype=torch.float32)
    given = [t for t in inputs if t is not None]

    def function(*given: Tensor) -> Tensor:
        values = iter(given)
        return ours(*(None if t is None else next(values) for t in inputs), *case.geometry)

    check_export(function, *given, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("float_positions", [False, True])
@pytest.mark.parametrize("channels", [64, 6])  # packed or not
@pytest.mark.parametrize("dtype", FLOATS)
def test_every_dtype_differs_from_torchvision_by_rounding(dtype, channels, float_positions, device):
    case = Case(size=(1, channels, 5, 5), groups=2)
    input, offset, weight, bias, mask = (t.detach() for t in tensors(case, device, dtype))
    if float_positions and dtype.itemsize == 2:
        offset, mask = offset.float() + 1e-3, mask.float() + 1e-4
    given = [t.requires_grad_() for t in (input, offset, weight, bias, mask)]
    exact = [t.detach().double().requires_grad_() for t in given]
    found = with_gradients(ours, given, *case.geometry)
    assert [t.dtype for t in found] == [dtype, *(t.dtype for t in given)]
    roundings = 2 if dtype.itemsize == 2 else 50  # positions are computed in float32 or the dtype
    expected = with_gradients(torchvisions, exact, *case.geometry)
    for own, theirs in zip(found, expected, strict=True):
        assert_rounds_to(own, theirs, dtype, roundings)


def test_memory_format_does_not_change_the_result(device):
    case = Case(groups=2)
    inputs = tensors(case, device)
    strided = [t if t is None else t.detach().mT.contiguous().mT for t in inputs[:3]]
    strided = [t.requires_grad_() for t in strided] + inputs[3:]
    strided[0] = inputs[0].detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    expected = with_gradients(ours, inputs, *case.geometry)
    for own, theirs in zip(with_gradients(ours, strided, *case.geometry), expected, strict=True):
        torch.testing.assert_close(own, theirs)


@pytest.mark.parametrize("dtype", FLOATS)
def test_unaligned_tensors_give_the_same_result(dtype, device):
    case = Case(size=(1, 16, 5, 6), groups=2)
    inputs = tensors(case, device, dtype)
    inputs[0] = inputs[0].detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    shifted = [unaligned(t).requires_grad_() for t in inputs]
    expected = with_gradients(ours, inputs, *case.geometry)
    for own, theirs in zip(with_gradients(ours, shifted, *case.geometry), expected, strict=True):
        torch.testing.assert_close(own, theirs)


def test_inputs_of_several_tiles_equal_torchvision(device):
    case = Case(size=(1, 600, 28, 28), outputs=1)  # 34 MB of columns
    inputs = tensors(case, device)
    expected = with_gradients(torchvisions, inputs, *case.geometry)
    for own, theirs in zip(with_gradients(ours, inputs, *case.geometry), expected, strict=True):
        torch.testing.assert_close(own, theirs)


def test_offsets_that_are_not_finite_read_zeros_without_gradient(device):
    inputs = tensors(Case(), device)
    wild = inputs[1].detach().clone()
    pairs = wild.view(2, 9, 2, 7, 9)  # y and x of each tap
    for i, number in enumerate([math.nan, math.inf, -math.inf]):
        pairs[:, i::4, i % 2, ::2, 1::3] = number
    bad = ~pairs.isfinite().all(2, keepdim=True)
    far = pairs.masked_fill(bad, 1e6).view(wild.shape)
    found = with_gradients(ours, [inputs[0], wild.requires_grad_(), *inputs[2:]], *Case().geometry)
    given = [inputs[0], far.requires_grad_(), *inputs[2:]]
    expected = with_gradients(torchvisions, given, *Case().geometry)
    for own, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(own, theirs)


def test_two_runs_give_equal_bits():
    case = Case(size=(2, 96, 20, 20), offset_groups=2)
    inputs = tensors(case, dtype=torch.float32)
    first = with_gradients(ours, inputs, *case.geometry)
    for own, theirs in zip(with_gradients(ours, inputs, *case.geometry), first, strict=True):
        assert torch.equal(own, theirs)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_number_of_threads_does_not_change_the_result(threads):
    case = Case(size=(2, 96, 9, 9), offset_groups=2, groups=2)
    inputs = tensors(case)
    usual = torch.get_num_threads()
    expected = with_gradients(torchvisions, inputs, *case.geometry)
    torch.set_num_threads(threads)
    found = with_gradients(ours, inputs, *case.geometry)
    torch.set_num_threads(usual)
    for own, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(own, theirs)


@pytest.mark.parametrize("value", [1e9, -1e9])
def test_samples_far_outside_are_zero(value, device):
    input, offset, weight, _, mask = tensors(Case(biased=False), device)
    far = torch.full_like(offset, value)
    assert not deform_conv2d(input, far, weight, padding=1, mask=mask).any()


def test_zero_output_channels_give_an_empty_output(device):
    input, offset, _, _, mask = tensors(Case(), device)
    weight = torch.empty(0, 8, 3, 3, dtype=input.dtype, device=device)
    output = deform_conv2d(input, offset, weight, padding=1, mask=mask)
    assert output.shape == (2, 0, 7, 9)
    assert not torch.autograd.grad(output.sum(), input)[0].any()


def test_a_nan_pixel_affects_only_outputs_that_read_it():
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 0, 0] = float("nan")
    output = deform_conv2d(image, torch.zeros(1, 18, 4, 4), torch.ones(1, 1, 3, 3), padding=1)
    assert output.isnan()[0, 0, :2, :2].all()
    assert not output.isnan()[0, 0, 3].any()


def test_autocast_casts_the_input_only(device):
    input, offset, weight, bias, mask = (t.float() for t in tensors(Case(), device))
    with torch.autocast(device.type, torch.bfloat16):
        output = deform_conv2d(input, offset, weight, bias, padding=1, mask=mask)
    expected = deform_conv2d(input.bfloat16(), offset, weight, bias, padding=1, mask=mask)
    assert torch.equal(output, expected)
    assert output.dtype == torch.bfloat16


def test_autocast_of_the_operator_keeps_float64(device):
    input, offset, weight, bias, mask = (t.detach().float() for t in tensors(Case(), device))
    others = mask, *Case().geometry
    operator = torch.ops.d2ext.deform_conv2d
    with torch.autocast(device.type, torch.bfloat16):
        output = operator(input, offset, weight, bias, *others)
        exact = operator(*(t.double() for t in (input, offset, weight, bias, mask)), *others[1:])
    assert torch.equal(output, operator(input.bfloat16(), offset, weight, bias, *others))
    assert exact.dtype == torch.float64
    torch.testing.assert_close(exact.float(), operator(input, offset, weight, bias, *others))


def test_a_half_input_takes_float32_weights(device):
    case = Case(groups=2)
    exact = [t.detach().float() for t in tensors(case, device)]
    exact[0] = exact[0].bfloat16().float()  # so that all is exact in both
    mixed = [exact[0].bfloat16(), *exact[1:]]
    expected, found = (
        with_gradients(ours, [t.requires_grad_() for t in inputs], *case.geometry)
        for inputs in (exact, mixed)
    )
    assert [t.dtype for t in found] == [torch.bfloat16] * 2 + [torch.float32] * 4
    for own, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(own.float(), theirs, rtol=2e-2, atol=2e-2)
    with torch.no_grad():
        plain = reference.deform_conv2d(*mixed, *case.geometry)
    torch.testing.assert_close(plain.float(), expected[0], rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("autocast", [False, True])
def test_torch_compile_has_no_graph_break(autocast, device):
    inputs = [t.detach().float().requires_grad_() for t in tensors(Case(), device)]
    geometry = Case().geometry

    def step(*inputs: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            return ours(*inputs, *geometry).sin()

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    expected = with_gradients(step, inputs)
    for own, theirs in zip(with_gradients(compiled, inputs), expected, strict=True):
        torch.testing.assert_close(own, theirs)


@pytest.mark.parametrize("needed", [[0], [1], [2], [4], [1, 2, 4], [3], [0, 2]])
@pytest.mark.parametrize("case", [Case(groups=2), Case(size=(1, 32, 4, 5))])
def test_gradients_of_some_inputs_equal_those_of_all(case, needed, device):
    inputs = tensors(case, device)
    _, *expected = with_gradients(torchvisions, inputs, *case.geometry)
    some = [t.detach().requires_grad_(i in needed) for i, t in enumerate(inputs)]
    output = ours(*some, *case.geometry)
    seed = torch.linspace(-1, 1, output.numel(), device=device, dtype=output.dtype)
    output.backward(seed.view(output.shape))
    for i, (tensor, grad) in enumerate(zip(some, expected, strict=True)):
        assert (tensor.grad is not None) == (i in needed)
        if tensor.grad is not None:
            torch.testing.assert_close(tensor.grad, grad)
    with torch.no_grad():
        arguments = seed.view(output.shape), *inputs[:3], inputs[4], *case.geometry
        flags = 0 in needed, 1 in needed or 4 in needed, 2 in needed
        found = torch.ops.d2ext.deform_conv2d_backward(*arguments, *flags)
        plain = reference.deform_conv2d_backward(*arguments, *flags)
    for own, theirs in zip(found, plain, strict=True):
        torch.testing.assert_close(own, theirs)


def test_an_activation_may_follow_in_place(device):
    inputs = tensors(Case(), device)
    output = ours(*inputs, *Case().geometry).relu_()
    torch.testing.assert_close(output, torchvisions(*inputs, *Case().geometry).relu())
    output.sum().backward()


def test_double_backward_raises(device):
    inputs = tensors(Case(), device)
    output = ours(*inputs, *Case().geometry)
    (grad,) = torch.autograd.grad(output.square().sum(), inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match="deform_conv2d is differentiable once"):
        grad.sum().backward()


def test_deterministic_mode_refuses_the_cuda_input_gradient(device):
    input, offset, weight, bias, mask = tensors(Case(), device)
    torch.use_deterministic_algorithms(True)
    try:
        output = ours(input, offset, weight, bias, mask, *Case().geometry)
        if device.type == "cuda":
            with pytest.raises(RuntimeError, match="in no fixed order"):
                output.sum().backward()
        else:
            output.sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"input": torch.rand(8, 7, 9)}, "B, C, H, W"),
        ({"input": torch.rand(2, 7, 7, 9)}, "fits no number of groups"),
        ({"input": torch.rand(2, 8, 7, 9).long()}, "expected floats"),
        ({"input": torch.rand(2, 8, 7, 9).double()}, "expected one dtype"),
        ({"offset": torch.rand(2, 18, 14, 18)}, r"offset must be \(2, 18 \* groups, 7, 9\)"),
        ({"offset": torch.rand(2, 17, 7, 9)}, "offset must be"),
        ({"mask": torch.rand(2, 9, 14, 18)}, r"mask must be \(2, 9, 7, 9\)"),
        ({"bias": torch.rand(3)}, r"bias must be \(2,\)"),
        ({"stride": 0}, "too small"),
        ({"padding": 0, "dilation": 4}, "spans"),
    ],
)
def test_invalid_arguments_raise_value_error(change, match):
    input, offset, weight, bias, mask = (t.detach().float() for t in tensors(Case()))
    good = {"input": input, "offset": offset, "weight": weight, "bias": bias, "mask": mask}
    with pytest.raises(ValueError, match=match):
        deform_conv2d(**{**good, "padding": 1, **change})
