"""The operator (compiled where the extension is), the reference and fvcore agree."""

import fvcore.nn
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from d2ext.ops import EXTENSION_STATE, reference, sigmoid_focal_loss
from tests.helpers.op_export import check_export
from tests.helpers.op_inputs import FLOATS, unaligned

NUM_CLASSES = 5
# Nothing, one number, a tile's rest, several tiles and chunks.
SHAPES = [(0, NUM_CLASSES), (7, 0), (1, 1), (2, 9, NUM_CLASSES), (900, 81)]


def logits(*shape: int, device="cpu", dtype=torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    made = torch.randn(shape, generator=generator, dtype=torch.float64) * 3
    return made.to(device, dtype).requires_grad_()


def soft_targets(inputs: Tensor) -> Tensor:
    """Return zeros, ones and values between them."""
    generator = torch.Generator().manual_seed(4)
    made = torch.rand(inputs.shape, generator=generator, dtype=torch.float64)
    return (2 * made - 0.5).clamp(0, 1).to(inputs)


def some_classes(inputs: Tensor) -> Tensor:
    """Return class indices, background among them."""
    generator = torch.Generator().manual_seed(5)
    classes = torch.randint(0, inputs.shape[-1] + 1, inputs.shape[:-1], generator=generator)
    return classes.to(inputs.device)


def one_hot(classes: Tensor, num_classes: int) -> Tensor:
    return F.one_hot(classes, num_classes + 1)[..., :-1].double()


def with_gradient(function, inputs: Tensor, *arguments) -> tuple[Tensor, Tensor]:
    loss = function(inputs, *arguments)
    seed = torch.linspace(-1, 2, loss.numel(), device=loss.device, dtype=loss.dtype)
    return loss, torch.autograd.grad(loss, inputs, seed.view(loss.shape))[0]


def by_hand(inputs, targets, alpha, gamma, reduction):
    """Compute the loss in the dtype of `inputs`; fvcore's computes in float32 only."""
    cross_entropy = F.binary_cross_entropy_with_logits(inputs, targets, reduction="none")
    right = targets * inputs.sigmoid() + (1 - targets) * (1 - inputs.sigmoid())
    loss = cross_entropy * (1 - right) ** gamma
    if alpha >= 0:
        loss = loss * (alpha * targets + (1 - alpha) * (1 - targets))
    return {"none": loss, "mean": loss.mean(), "sum": loss.sum()}[reduction]


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2), (-1, 2), (0.25, 1.5), (0.5, 0), (1, 4)])
@pytest.mark.parametrize("shape", SHAPES)
def test_loss_and_gradient_equal_fvcores(shape, alpha, gamma, reduction, device):
    inputs = logits(*shape, device=device, dtype=torch.float32)
    arguments = soft_targets(inputs), alpha, gamma, reduction
    expected = with_gradient(fvcore.nn.sigmoid_focal_loss, inputs, *arguments)
    for own, theirs in zip(
        with_gradient(sigmoid_focal_loss, inputs, *arguments), expected, strict=True
    ):
        torch.testing.assert_close(own, theirs, equal_nan=True, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2), (-1, 1.5)])
def test_float64_operator_and_reference_equal_the_formula(alpha, gamma, reduction, device):
    inputs = logits(50, 81, device=device)
    targets = soft_targets(inputs)
    loss, grad = with_gradient(by_hand, inputs, targets, alpha, gamma, reduction)
    found = with_gradient(sigmoid_focal_loss, inputs, targets, alpha, gamma, reduction)
    torch.testing.assert_close(found, (loss, grad))
    if reduction == "mean":
        return
    arguments = inputs.detach(), targets, alpha, gamma, reduction == "sum"
    seed = torch.linspace(-1, 2, loss.numel(), device=device, dtype=loss.dtype).view(loss.shape)
    torch.testing.assert_close(reference.sigmoid_focal_loss(*arguments), loss.detach())
    torch.testing.assert_close(reference.sigmoid_focal_loss_backward(seed, *arguments), grad)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("shape", SHAPES)
def test_class_indices_equal_one_hot_targets(shape, reduction, device):
    inputs = logits(*shape, device=device)
    classes = some_classes(inputs)
    wanted = one_hot(classes, shape[-1]).to(device)
    expected = with_gradient(sigmoid_focal_loss, inputs, wanted, 0.25, 2, reduction)
    found = with_gradient(sigmoid_focal_loss, inputs, classes, 0.25, 2, reduction)
    torch.testing.assert_close(found, expected, equal_nan=True)


def test_negative_classes_are_ignored_and_large_are_background(device):
    inputs = logits(3, 400, device=device)  # rows across tiles
    classes = torch.tensor([-1, 400, 1000], device=device)
    loss, grad = with_gradient(sigmoid_focal_loss, inputs, classes, 0.25, 2, "none")
    assert not loss[0].any()
    assert not grad[0].any()
    background = torch.zeros_like(inputs)
    expected = sigmoid_focal_loss(inputs, background, 0.25, 2)
    torch.testing.assert_close(loss[1:], expected[1:])
    arguments = inputs.detach(), classes, 0.25, 2.0, False
    torch.testing.assert_close(reference.sigmoid_focal_loss(*arguments), loss.detach())


def test_loss_of_one_logit_worked_out_by_hand():
    # At probability 3/4 of a positive: 0.25 * (1/4)^2 * log(4/3).
    inputs = torch.tensor([[3.0]]).log()
    expected = 0.25 / 16 * torch.tensor([[4 / 3]]).log()
    torch.testing.assert_close(sigmoid_focal_loss(inputs, torch.tensor([0]), 0.25), expected)


@pytest.mark.parametrize("gamma", [0, 0.5, 2, 3])
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_large_logits_lose_no_precision(target, gamma, device):
    exact = torch.linspace(-20, 20, 1001, device=device).double().requires_grad_()
    inputs = exact.detach().float().requires_grad_()
    targets = torch.full_like(exact, target)
    expected = with_gradient(sigmoid_focal_loss, exact, targets, 0.25, gamma)
    for own, wide in zip(
        with_gradient(sigmoid_focal_loss, inputs, targets.float(), 0.25, gamma),
        expected,
        strict=True,
    ):
        torch.testing.assert_close(own.double(), wide, rtol=1e-5, atol=0)


@pytest.mark.parametrize("value", [-1e4, 1e4])
def test_huge_logits_stay_finite(value, device):
    inputs = torch.full((2, 3), value, device=device, requires_grad=True)
    classes = torch.tensor([0, 3], device=device)
    for gamma in (0.5, 2):
        loss, grad = with_gradient(sigmoid_focal_loss, inputs, classes, 0.25, gamma)
        assert loss.isfinite().all()
        assert grad.isfinite().all()


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype, autocast, device):
    inputs = logits(300, 9, device=device, dtype=dtype)
    classes = some_classes(inputs)
    wide = inputs.detach().float().requires_grad_()
    with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
        loss, grad = with_gradient(sigmoid_focal_loss, inputs, classes, 0.25, 2, "none")
    expected, wide_grad = with_gradient(sigmoid_focal_loss, wide, classes, 0.25, 2, "none")
    assert torch.equal(loss, expected)
    assert torch.equal(grad, wide_grad.to(dtype))


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float16])
def test_targets_of_another_dtype_are_converted(dtype, device):
    inputs = logits(6, NUM_CLASSES, device=device)
    wanted = one_hot(some_classes(inputs), NUM_CLASSES)
    expected = sigmoid_focal_loss(inputs, wanted)
    torch.testing.assert_close(sigmoid_focal_loss(inputs, wanted.to(dtype)), expected)


@pytest.mark.parametrize("dtype", FLOATS)
def test_unaligned_logits_give_the_same_result(dtype, device):
    inputs = logits(6, NUM_CLASSES, device=device, dtype=dtype)
    expected = with_gradient(sigmoid_focal_loss, inputs, some_classes(inputs))
    shifted = unaligned(inputs).requires_grad_()
    found = with_gradient(sigmoid_focal_loss, shifted, some_classes(inputs))
    torch.testing.assert_close(found, expected)


def test_memory_format_does_not_change_the_result(device):
    inputs = logits(6, NUM_CLASSES, device=device)
    targets = soft_targets(inputs)
    strided = inputs.detach().mT.contiguous().mT.requires_grad_()
    expected = with_gradient(sigmoid_focal_loss, inputs, targets)
    found = with_gradient(sigmoid_focal_loss, strided, targets.mT.contiguous().mT)
    torch.testing.assert_close(found, expected)
    classes = some_classes(inputs).repeat_interleave(2)[::2]
    torch.testing.assert_close(
        sigmoid_focal_loss(strided, classes), sigmoid_focal_loss(inputs, classes.contiguous())
    )


def test_double_backward_raises(device):
    inputs = logits(4, NUM_CLASSES, device=device)
    loss = sigmoid_focal_loss(inputs, some_classes(inputs), reduction="sum")
    (grad,) = torch.autograd.grad(loss, inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.autograd.grad(grad.square().sum() + inputs.sum(), inputs)


@pytest.mark.skipif("compiled" not in EXTENSION_STATE, reason="PyTorch's own sums do change")
def test_number_of_threads_does_not_change_a_bit():
    inputs = logits(5000, 80, dtype=torch.float32)
    classes = some_classes(inputs)
    usual, found = torch.get_num_threads(), []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        found.append(with_gradient(sigmoid_focal_loss, inputs, classes, 0.25, 2, "sum"))
    torch.set_num_threads(usual)
    for loss, grad in found[1:]:
        assert torch.equal(loss, found[0][0])
        assert torch.equal(grad, found[0][1])


@pytest.mark.parametrize("sum", [False, True])
@pytest.mark.parametrize("by_class", [False, True])
def test_opcheck_and_gradcheck_pass(by_class, sum, device):
    inputs = logits(4, NUM_CLASSES, device=device)
    targets = some_classes(inputs) if by_class else soft_targets(inputs)
    options = (0.25, 1.5, sum)
    operators = torch.ops.d2ext
    torch.library.opcheck(operators.sigmoid_focal_loss.default, (inputs, targets, *options))
    grad = torch.rand(() if sum else inputs.shape, device=device, dtype=torch.float64)
    torch.library.opcheck(
        operators.sigmoid_focal_loss_backward.default,
        (grad, inputs.detach(), targets, *options),
        test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_dynamic"),
    )
    reduction = "sum" if sum else "none"
    assert torch.autograd.gradcheck(sigmoid_focal_loss, (inputs, targets, 0.25, 1.5, reduction))


def test_torch_compile_has_no_graph_break(device):
    compiled = torch.compile(sigmoid_focal_loss, backend="aot_eager", fullgraph=True)
    inputs = logits(4, NUM_CLASSES, device=device)
    arguments = some_classes(inputs), 0.25, 2, "mean"
    expected = with_gradient(sigmoid_focal_loss, inputs, *arguments)
    torch.testing.assert_close(with_gradient(compiled, inputs, *arguments), expected)


@pytest.mark.parametrize("by_class", [False, True])
def test_export_as_program_and_onnx_gives_equal_output(by_class):
    inputs = logits(4, NUM_CLASSES, dtype=torch.float32)
    targets = some_classes(inputs) if by_class else soft_targets(inputs)

    def function(*tensors: Tensor) -> Tensor:
        return sigmoid_focal_loss(*tensors, 0.25, 2, "sum")

    check_export(function, inputs, targets.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"inputs": torch.zeros(4, 5).long()}, "must be floats"),
        ({"targets": torch.zeros(4, 6)}, r"must be \(4, 5\), or int64 classes \(4,\)"),
        ({"targets": torch.zeros(4)}, "int64 classes"),
        ({"targets": torch.zeros(5).long()}, "int64 classes"),
        ({"targets": torch.zeros(4, 5, requires_grad=True)}, "detach them"),
        ({"targets": torch.zeros(4, 5, device="meta")}, "device of targets"),
        ({"alpha": 2}, "alpha must be at most 1"),
        ({"gamma": -1}, "gamma at least 0"),
        ({"reduction": "max"}, "'max'"),
    ],
)
def test_invalid_arguments_raise_value_error(change, match):
    good = {"inputs": torch.zeros(4, 5), "targets": torch.zeros(4, 5)}
    with pytest.raises(ValueError, match=match):
        sigmoid_focal_loss(**{**good, **change})
