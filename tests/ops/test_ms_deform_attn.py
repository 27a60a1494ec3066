"""The operator (compiled where the extension is), the reference and a grid_sample version agree."""

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from d2ext.ops import ms_deform_attn, reference
from tests.helpers.op_export import check_export
from tests.helpers.op_inputs import FLOATS, assert_rounds_to, unaligned


class Case(NamedTuple):
    sizes: tuple[tuple[int, int], ...] = ((6, 9), (3, 5))
    batch: int = 2
    queries: int = 7
    heads: int = 3
    points: int = 4
    channels: int = 8

    @property
    def flat_sizes(self) -> list[int]:
        return [side for size in self.sizes for side in size]


CASES = [
    Case(),
    Case(sizes=((5, 4),), heads=1),
    Case(sizes=((1, 1), (2, 3), (1, 5)), points=1),
    Case(sizes=((4, 7), (3, 4), (2, 2), (1, 1)), points=5, channels=1),
    Case(channels=50, heads=2),  # several vectors and a rest
    Case(channels=16, heads=8, queries=1),
    Case(batch=5, queries=33, channels=32),
    Case(sizes=((3, 3),), points=9),  # a sample more than threads share
    Case(sizes=((2, 1),) * 64, points=1, queries=2, heads=1),
    Case(sizes=((2, 1), (1, 1)) * 40, points=1, queries=2, heads=1),  # more than arguments hold
    Case(batch=0),
    Case(queries=0),
]


def tensors(case: Case, device="cpu", dtype=torch.float64) -> list[Tensor]:
    """Return value, locations (some outside the maps, none on a pixel's border) and weights."""
    generator = torch.Generator().manual_seed(7)

    def uniform(*size: int) -> Tensor:
        return torch.rand(size, generator=generator, dtype=torch.float64)

    pixels = sum(height * width for height, width in case.sizes)
    samples = case.batch, case.queries, case.heads, len(case.sizes), case.points
    sides = torch.tensor([(width, height) for height, width in case.sizes])[:, None]
    cells = (uniform(*samples, 2) * (sides + 3) - 2).floor()
    made = [
        uniform(case.batch, pixels, case.heads, case.channels) - 0.5,
        (cells + 0.5 + uniform(*samples, 2) * 0.8 + 0.1) / sides,
        uniform(*samples),
    ]
    return [tensor.to(device, dtype).requires_grad_() for tensor in made]


def with_gradients(function, sizes, tensors: list[Tensor]) -> list[Tensor]:
    """Return the output and the gradients of value, locations and weights."""
    value, *others = tensors
    output = function(value, sizes, *others)
    seed = torch.linspace(-1, 1, output.numel(), device=output.device, dtype=output.dtype)
    return [output, *torch.autograd.grad(output, tensors, seed.view(output.shape))]


def ours(case: Case, tensors: list[Tensor]) -> list[Tensor]:
    return with_gradients(ms_deform_attn, case.sizes, tensors)


def by_grid_sample(case: Case, tensors: list[Tensor]) -> list[Tensor]:
    return with_gradients(reference.ms_deform_attn_by_grid_sample, case.flat_sizes, tensors)


def assert_all_close(found: list[Tensor], expected: list[Tensor], **tolerances: float) -> None:
    for own, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(own, theirs, **tolerances)


@pytest.mark.parametrize("case", [case for case in CASES if case.batch * case.queries])
def test_output_and_gradients_equal_grid_sample(case, device):
    inputs = tensors(case, device)
    assert_all_close(ours(case, inputs), by_grid_sample(case, inputs))


@pytest.mark.parametrize("case", CASES)
def test_output_and_gradients_equal_the_reference(case, device):
    inputs = tensors(case, device)
    found, *grads = ours(case, inputs)
    value, *others = (tensor.detach() for tensor in inputs)
    expected = reference.ms_deform_attn(value, case.flat_sizes, *others)
    seed = torch.linspace(-1, 1, found.numel(), device=device, dtype=found.dtype)
    expected_grads = reference.ms_deform_attn_backward(
        seed.view(found.shape), value, case.flat_sizes, *others
    )
    assert_all_close([found.detach(), *grads], [expected, *expected_grads])


def test_a_sample_between_four_pixels_is_their_mean():
    value = torch.tensor([1.0, 2.0, 3.0, 5.0]).view(1, 4, 1, 1)
    locations = torch.tensor([[0.5, 0.375], [1.0, 0.25]]).view(1, 2, 1, 1, 1, 2)
    output = ms_deform_attn(value, [(2, 2)], locations, torch.full((1, 2, 1, 1, 1), 10.0))
    # A quarter of the way from (1 + 2) / 2 to (3 + 5) / 2; half of 2, for zeros lie outside.
    torch.testing.assert_close(output.flatten(), torch.tensor([21.25, 10.0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck_passes(dtype, device):
    case = Case()
    value, *others = inputs = tensors(case, device, dtype)
    operators = torch.ops.d2ext
    torch.library.opcheck(
        operators.ms_deform_attn.default, (value, case.flat_sizes, *others), rtol=1e-4, atol=1e-4
    )
    value, *others = (tensor.detach() for tensor in inputs)
    grad = torch.rand(case.batch, case.queries, case.heads * case.channels, dtype=dtype)
    torch.library.opcheck(
        operators.ms_deform_attn_backward.default,
        (grad.to(device), value, case.flat_sizes, *others),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("case", [Case(queries=2, batch=1), Case(((4, 3),), channels=3, points=2)])
def test_gradcheck_passes(case, device):
    def function(value, locations, weights):
        return ms_deform_attn(value, case.sizes, locations, weights)

    assert torch.autograd.gradcheck(function, tensors(case, device), nondet_tol=1e-12)


def test_double_backward_raises(device):
    value, locations, weights = tensors(Case(), device)
    output = ms_deform_attn(value, Case().sizes, locations, weights)
    (grad,) = torch.autograd.grad(output.sum(), locations, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        grad.sum().backward()


def test_torch_compile_has_no_graph_break(device):
    case = Case()
    inputs = tensors(case, device, torch.float32)

    @torch.compile(fullgraph=True, backend="aot_eager", dynamic=True)
    def compiled(value, sizes, locations, weights):
        return ms_deform_attn(value * 2, sizes, locations, weights)

    doubled = [(inputs[0] * 2).detach().requires_grad_(), *inputs[1:]]
    output, grad_value, *grads = ours(case, doubled)
    expected = [output, 2 * grad_value, *grads]
    assert_all_close(with_gradients(compiled, case.sizes, inputs), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", [Case(), Case(sizes=((5, 4),), batch=1, heads=1)])
def test_export_as_program_and_onnx_gives_equal_output(case):
    def function(value, locations, weights):
        return ms_deform_attn(value, case.sizes, locations, weights)

    check_export(function, *tensors(case, dtype=torch.float32), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("float_positions", [False, True])
@pytest.mark.parametrize("channels", [32, 20, 3])  # packs of 16 bytes, of 8 in half types, none
@pytest.mark.parametrize("dtype", FLOATS)
def test_every_dtype_differs_from_the_reference_by_rounding(
    dtype, channels, float_positions, device
):
    case = Case(channels=channels)
    value, locations, weights = (t.detach() for t in tensors(case, device, dtype))
    if float_positions and dtype.itemsize == 2:
        locations, weights = locations.float() + 1e-3, weights.float() + 1e-4
    given = [t.requires_grad_() for t in (value, locations, weights)]
    exact = [t.detach().double().requires_grad_() for t in given]
    found = ours(case, given)
    assert [t.dtype for t in found] == [dtype, *(t.dtype for t in given)]
    roundings = 2 if dtype.itemsize == 2 else 50  # positions are computed in float32 or the dtype
    for own, expected in zip(found, by_grid_sample(case, exact), strict=True):
        assert_rounds_to(own, expected, dtype, roundings)


def test_memory_format_does_not_change_the_result(device):
    case = Case()
    inputs = tensors(case, device)
    strided = [t.detach().mT.contiguous().mT.requires_grad_() for t in inputs]
    assert not any(t.is_contiguous() for t in strided)
    assert_all_close(ours(case, strided), ours(case, inputs))


@pytest.mark.parametrize("dtype", FLOATS)
def test_unaligned_tensors_give_the_same_result(dtype, device):
    inputs = tensors(Case(), device, dtype)
    shifted = [unaligned(t).requires_grad_() for t in inputs]
    assert_all_close(ours(Case(), shifted), ours(Case(), inputs))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_number_of_threads_does_not_change_a_bit(threads):
    case = Case(queries=300, channels=20)
    inputs = tensors(case, dtype=torch.float32)
    usual = torch.get_num_threads()
    expected = ours(case, inputs)
    torch.set_num_threads(threads)
    found = ours(case, inputs)
    torch.set_num_threads(usual)
    if torch._C._dispatch_has_kernel_for_dispatch_key("d2ext::ms_deform_attn", "CPU"):
        assert all(map(torch.equal, found, expected))
    assert_all_close(found, expected, rtol=1e-4, atol=1e-4)


def test_deterministic_mode_refuses_the_cuda_gradients():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    inputs = tensors(Case(), "cuda")
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(RuntimeError, match="in no fixed order"):
            ours(Case(), inputs)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("value", [1e9, -1e9])
def test_samples_far_outside_are_zero_without_gradient(value, device):
    inputs = tensors(Case(), device)
    inputs[1] = torch.full_like(inputs[1], value).requires_grad_()
    assert not any(tensor.any() for tensor in ours(Case(), inputs))


def test_locations_that_are_not_finite_read_zeros_without_gradient(device):
    value, locations, weights = tensors(Case(), device)
    flat, bad = locations.detach().clone(), torch.zeros(locations.shape[:-1], dtype=torch.bool)
    for i, number in enumerate([math.nan, math.inf, -math.inf]):
        flat.view(-1, 2)[i::9, i % 2] = number
        bad.view(-1)[i::9] = True
    far = flat.masked_fill(bad.to(device)[..., None], 1e6)
    found = ours(Case(), [value, flat.requires_grad_(), weights])
    expected = by_grid_sample(Case(), [value, far.requires_grad_(), weights])
    assert_all_close(found, expected)


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_a_nan_location_affects_only_its_query(bad, device):
    case = Case()
    inputs = tensors(case, device)
    locations = inputs[1].detach().clone()
    locations[:, 3] = bad
    found = ms_deform_attn(inputs[0], case.sizes, locations, inputs[2])
    expected = ms_deform_attn(inputs[0], case.sizes, *inputs[1:])
    others = [0, 1, 2, 4, 5, 6]
    torch.testing.assert_close(found[:, others], expected[:, others])


def test_autocast_casts_the_value_but_not_the_locations(device):
    value, *others = (t.float() for t in tensors(Case(), device))
    with torch.autocast(device.type, torch.bfloat16):
        output = ms_deform_attn(value, Case().sizes, *others)
    assert torch.equal(output, ms_deform_attn(value.bfloat16(), Case().sizes, *others))
    assert output.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"value": torch.rand(2, 69, 24)}, "N, S, M, D"),
        ({"value": torch.rand(2, 69, 3, 8).long()}, "expected floats"),
        ({"value": torch.rand(2, 69, 3, 8).double()}, "expected one dtype"),
        ({"value": torch.rand(2, 70, 3, 8)}, "do not have 70 pixels"),
        ({"value": torch.rand(2, 69, 2, 8)}, r"must be \(2, Q, 2, 2, P, 2\)"),
        ({"spatial_shapes": [(6, 9)]}, "do not have 69 pixels"),
        ({"spatial_shapes": []}, "heights and widths"),
        ({"spatial_shapes": [(6, 9), (0, 5)]}, "heights and widths"),
        ({"sampling_locations": torch.rand(2, 7, 3, 2, 4, 3)}, r"P, 2\) with at least"),
        ({"sampling_locations": torch.rand(1, 7, 3, 2, 4, 2)}, r"must be \(2, Q"),
        ({"sampling_locations": torch.rand(2, 7, 3, 2, 0, 2)}, "at least one point"),
        ({"attention_weights": torch.rand(2, 7, 3, 8)}, r"must be \(2, 7, 3, 2, 4\)"),
    ],
)
def test_invalid_arguments_raise_value_error(change, match):
    value, locations, weights = (t.detach().float() for t in tensors(Case()))
    good = {"value": value, "sampling_locations": locations, "attention_weights": weights}
    with pytest.raises(ValueError, match=match):
        ms_deform_attn(**{"spatial_shapes": Case().sizes, **good, **change})
