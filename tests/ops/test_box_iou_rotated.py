"""The operators (compiled where the extension is), the reference and shapely agree."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from d2ext.ops import box_iou_rotated, matched_iou_rotated, reference
from tests.helpers.op_export import check_export
from tests.helpers.op_inputs import FLOATS, unaligned
from tests.helpers.rotated_boxes import shapely_iou, some_boxes


def variants() -> dict[str, tuple[Tensor, Tensor]]:
    """Return pairs of (N, 5) and (M, 5) boxes, named by what is special about them."""
    boxes = some_boxes(30)
    generator = torch.Generator().manual_seed(1)

    def noise(scale: float) -> Tensor:
        return (torch.rand(boxes.shape, generator=generator, dtype=torch.float64) - 0.5) * scale

    half_turn, quarter_turn = boxes.clone(), boxes[:, [0, 1, 3, 2, 4]]
    half_turn[:, 4] += 180
    quarter_turn[:, 4] -= 90
    nested = boxes * boxes.new_tensor([1, 1, 0.5, 0.3, 1])
    cos, sin = boxes[:, 4].deg2rad().cos(), boxes[:, 4].deg2rad().sin()
    touching = boxes.clone()
    touching[:, :2] += boxes[:, 2:3] * torch.stack((cos, -sin), dim=1)
    upright = boxes.clone()
    upright[:, :4] = upright[:, :4].round()  # many sides and corners fall together
    upright[:, 4] = (upright[:, 4] / 90).round() * 90
    thinner = boxes.new_tensor([1, 1, 20, 0.05, 1])
    thin, thin_too = boxes * thinner, some_boxes(30, seed=3) * thinner
    return {
        "random": (boxes, some_boxes(40, seed=2)),
        "identical": (boxes, boxes.clone()),
        "identical but for half a turn": (boxes, half_turn),
        "identical but for a quarter turn": (boxes, quarter_turn),
        "nested": (boxes, nested),
        "touching": (boxes, touching),
        "upright, on whole pixels": (upright, upright.flip(0)),
        "nearly identical": (boxes, boxes + noise(1e-9)),
        "nearly parallel": (boxes, boxes + noise(1e-3) * boxes.new_tensor([0, 0, 0, 0, 1])),
        "nearly upright": (upright, upright + noise(1e-11)),
        "thin": (thin, thin_too),
        "thin and nearly parallel": (thin, thin + noise(1e-2)),
        "tiny in huge": (boxes, boxes * boxes.new_tensor([1, 1, 1e4, 1e4, 1])),
        "far apart": (boxes, boxes + 1e4),
        "first none": (boxes[:0], boxes),
        "second none": (boxes, boxes[:0]),
        "none": (boxes[:0], boxes[:0]),
    }


VARIANTS = variants()


@pytest.mark.parametrize("name", VARIANTS)
def test_iou_equals_that_of_shapely_polygons(name, device):
    boxes1, boxes2 = VARIANTS[name]
    expected = shapely_iou(boxes1, boxes2)
    own = box_iou_rotated(boxes1.to(device), boxes2.to(device))
    torch.testing.assert_close(own.cpu(), expected, rtol=1e-8, atol=1e-9)
    plain = reference.box_iou_rotated(boxes1.to(device), boxes2.to(device))
    torch.testing.assert_close(plain.cpu(), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", VARIANTS)
def test_float32_is_close_to_float64(name, device):
    boxes1, boxes2 = (boxes.float().to(device) for boxes in VARIANTS[name])
    exact = box_iou_rotated(boxes1.double(), boxes2.double()).float()
    # A box 0.2 pixels high and 800 long shows what rounding does to its far end.
    tolerance = 1e-3 if "thin" in name else 2e-6
    torch.testing.assert_close(
        box_iou_rotated(boxes1, boxes2), exact, rtol=tolerance, atol=tolerance
    )
    plain = reference.box_iou_rotated(boxes1, boxes2)
    torch.testing.assert_close(plain, exact, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", VARIANTS)
def test_matched_iou_is_the_diagonal_of_pairwise_iou(name, device):
    boxes1, boxes2 = (boxes.to(device) for boxes in VARIANTS[name])
    count = min(len(boxes1), len(boxes2))
    expected = box_iou_rotated(boxes1[:count], boxes2[:count]).diagonal()
    own = matched_iou_rotated(boxes1[:count], boxes2[:count])
    torch.testing.assert_close(own, expected, rtol=1e-12, atol=1e-12)


def test_iou_of_a_cross_and_a_diamond_worked_out_by_hand():
    boxes = torch.tensor([[0.0, 0, 6, 2, 0], [0, 0, 6, 2, 90], [0, 0, 2**0.5, 2**0.5, 45]])
    # The cross has 2 x 2 in common; the diamond, of area 2, lies in both.
    expected = torch.tensor([[1, 4 / 20, 2 / 12], [4 / 20, 1, 2 / 12], [2 / 12, 2 / 12, 1]])
    torch.testing.assert_close(box_iou_rotated(boxes, boxes), expected)


@pytest.mark.parametrize("centre", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("sizes", [(30, 20), (4000, 0.5), (1e-3, 1e-4), (1e6, 1e6)])
def test_identical_boxes_have_iou_one_in_float32(sizes, centre, device):
    angles = torch.linspace(-400, 400, 57)
    boxes = torch.tensor([[centre, -centre / 3, *sizes, 0]]).repeat(len(angles), 1)
    boxes[:, 4] = angles
    boxes = boxes.to(device)
    for function in (matched_iou_rotated, reference.matched_iou_rotated):
        ious = function(boxes, boxes)
        torch.testing.assert_close(ious, torch.ones_like(ious), rtol=0, atol=1e-6)
        assert (ious <= 1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_touching_and_disjoint_boxes_have_iou_zero(dtype, device):
    boxes = torch.tensor([[5, 3, 4, 2, 0], [9, 3, 4, 2, 0], [7, 5, 4, 2, 0], [50, 30, 9, 9, 33]])
    ious = box_iou_rotated(boxes.to(device, dtype), boxes.to(device, dtype))
    assert torch.equal(ious.cpu(), torch.tensor([1, 1, 1, 1]).to(dtype).diag())


NOTHING = [
    [10.0, 10, 0, 0, 0],
    [10, 10, 8, 0, 30],
    [10, 10, -8, 6, 0],
    [10, 10, -8, -6, 0],
    [10, 10, 8, float("nan"), 0],
    [float("nan"), 10, 8, 6, 0],
    [10, 10, 8, 6, float("inf")],
    [10, float("-inf"), 8, 6, 0],
    [10, 10, float("inf"), 6, 0],
]


@pytest.mark.parametrize("box", NOTHING)
def test_degenerate_and_non_finite_boxes_have_iou_zero(box, device):
    box = torch.tensor([box], dtype=torch.float32, device=device)
    others = torch.tensor([[10.0, 10, 8, 6, 0], box[0].tolist()], device=device)
    for left, right in ((box, others), (others, box)):
        left, right = left.clone().requires_grad_(), right.clone().requires_grad_()
        ious = box_iou_rotated(left, right)
        assert torch.equal(ious, torch.zeros_like(ious))
        assert torch.equal(reference.box_iou_rotated(left, right), torch.zeros_like(ious))
        for grad in torch.autograd.grad(ious.sum(), (left, right)):
            assert torch.equal(grad, torch.zeros_like(grad))


# ---- gradients

Function = Callable[[Tensor, Tensor], Tensor]


def gradients(function: Function, boxes1: Tensor, boxes2: Tensor) -> tuple[Tensor, ...]:
    leaves = [boxes.detach().requires_grad_() for boxes in (boxes1, boxes2)]
    ious = function(*leaves)
    # Whole numbers, which half types hold.
    seed = torch.arange(ious.numel(), device=ious.device).view(ious.shape) % 7 - 2
    return torch.autograd.grad(ious, leaves, seed.to(ious.dtype))


@pytest.mark.parametrize("name", ["random", "thin", "far apart", "first none", "none"])
def test_gradients_equal_autograd_through_the_reference(name, device):
    boxes1, boxes2 = (boxes.to(device) for boxes in VARIANTS[name])
    expected = gradients(reference.box_iou_rotated, boxes1, boxes2)
    for own, theirs in zip(gradients(box_iou_rotated, boxes1, boxes2), expected, strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", VARIANTS)
def test_gradients_equal_the_reference_backward(name, device):
    boxes1, boxes2 = (boxes.to(device) for boxes in VARIANTS[name])
    seed = torch.arange(len(boxes1) * len(boxes2), device=device, dtype=torch.float64) % 7 - 2
    seed = seed.view(len(boxes1), len(boxes2))
    plain = reference.box_iou_rotated_backward(seed, boxes1, boxes2)
    for own, theirs in zip(gradients(box_iou_rotated, boxes1, boxes2), plain, strict=True):
        assert own.isfinite().all()
        if "nearly" not in name and name != "touching":  # where rounding decides about jumps
            torch.testing.assert_close(own, theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("function", [box_iou_rotated, matched_iou_rotated])
def test_gradients_equal_finite_differences(function, parallel, device):
    boxes1, boxes2 = some_boxes(5, 3, device=device), some_boxes(5, 4, device=device)
    if parallel:
        boxes1[:, 4] = boxes2[:, 4] = 30
        boxes2[1:3, 2:4] *= 0.1
        boxes2[1:3, :2] = boxes1[1:3, :2] + 0.5  # nested
    inputs = boxes1.requires_grad_(), boxes2.requires_grad_()
    assert (function(*inputs) > 0).any()
    assert torch.autograd.gradcheck(function, inputs)


@pytest.mark.parametrize("function", [box_iou_rotated, matched_iou_rotated])
def test_double_backward_raises(function, device):
    boxes = some_boxes(3, device=device).requires_grad_()
    (grad,) = torch.autograd.grad(function(boxes, boxes + 1).sum(), boxes, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.autograd.grad(grad.sum(), boxes)


def test_matched_gradient_equals_that_of_the_diagonal(device):
    boxes1, boxes2 = some_boxes(9, 5, device=device), some_boxes(9, 6, device=device)
    expected = gradients(lambda *boxes: box_iou_rotated(*boxes).diagonal(), boxes1, boxes2)
    own = gradients(matched_iou_rotated, boxes1, boxes2)
    torch.testing.assert_close(own, expected)
    seed = torch.arange(9, device=device, dtype=torch.float64) % 7 - 2
    plain = reference.matched_iou_rotated_backward(seed, boxes1, boxes2)
    torch.testing.assert_close(plain, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identical_boxes_have_zero_gradient(dtype, device):
    boxes = some_boxes(20, dtype=dtype, device=device)
    for grad in gradients(matched_iou_rotated, boxes, boxes.clone()):
        torch.testing.assert_close(grad, torch.zeros_like(grad), rtol=0, atol=1e-6)


# ---- types, memory, threads, registrations


@pytest.mark.parametrize("function", [box_iou_rotated, matched_iou_rotated])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype, function, device):
    boxes1, boxes2 = some_boxes(20, 1, dtype, device), some_boxes(20, 2, dtype, device)
    own, exact = function(boxes1, boxes2), function(boxes1.float(), boxes2.float())
    assert torch.equal(own, exact.to(dtype))
    expected = gradients(function, boxes1.float(), boxes2.float())
    for half, grad in zip(gradients(function, boxes1, boxes2), expected, strict=True):
        torch.testing.assert_close(half, grad.to(dtype))


@pytest.mark.parametrize("dtype", FLOATS)
def test_unaligned_boxes_give_the_same_iou(dtype, device):
    boxes1, boxes2 = some_boxes(6, 1, dtype, device), some_boxes(33, 2, dtype, device)
    expected = gradients(box_iou_rotated, boxes1, boxes2)
    found = gradients(box_iou_rotated, unaligned(boxes1), unaligned(boxes2))
    torch.testing.assert_close(found, expected)


def test_strided_boxes_give_the_same_iou(device):
    boxes1, boxes2 = some_boxes(6, 1, device=device), some_boxes(8, 2, device=device)
    strided = boxes1.mT.contiguous().mT, torch.stack((boxes2, boxes2), dim=1)[:, 0]
    torch.testing.assert_close(box_iou_rotated(*strided), box_iou_rotated(boxes1, boxes2))
    expected = gradients(box_iou_rotated, boxes1, boxes2)
    torch.testing.assert_close(gradients(box_iou_rotated, *strided), expected)


@pytest.mark.parametrize("size", [(1, 9001), (9001, 1), (300, 70)])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_number_of_threads_does_not_change_the_result(threads, size):
    boxes1, boxes2 = some_boxes(size[0], 1), some_boxes(size[1], 2)
    expected = reference.box_iou_rotated(boxes1, boxes2)
    usual = torch.get_num_threads()
    torch.set_num_threads(threads)
    own = box_iou_rotated(boxes1, boxes2)
    grads = gradients(box_iou_rotated, boxes1, boxes2)
    torch.set_num_threads(usual)
    torch.testing.assert_close(own, expected)
    for grad, again in zip(grads, gradients(box_iou_rotated, boxes1, boxes2), strict=True):
        assert torch.equal(grad, again)


@pytest.mark.parametrize("name", ["box_iou_rotated", "matched_iou_rotated"])
def test_opcheck_passes(name, device):
    boxes1, boxes2 = some_boxes(4, 1, device=device), some_boxes(4, 2, device=device)
    leaves = boxes1.clone().requires_grad_(), boxes2.clone().requires_grad_()
    torch.library.opcheck(getattr(torch.ops.d2ext, name).default, leaves)
    grad = torch.ones_like(getattr(torch.ops.d2ext, name)(boxes1, boxes2))
    torch.library.opcheck(
        getattr(torch.ops.d2ext, f"{name}_backward").default,
        (grad, boxes1, boxes2),
        test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_dynamic"),
    )


def test_autocast_computes_in_float32(device):
    boxes1 = some_boxes(4, 1, torch.bfloat16, device)
    boxes2 = some_boxes(4, 2, torch.float32, device)
    with torch.autocast(device.type, torch.bfloat16):
        ious = box_iou_rotated(boxes1, boxes2), matched_iou_rotated(boxes1, boxes2)
    expected = box_iou_rotated(boxes1.float(), boxes2)
    assert torch.equal(ious[0], expected)
    torch.testing.assert_close(ious[1], expected.diagonal())


@pytest.mark.parametrize("function", [box_iou_rotated, matched_iou_rotated])
def test_torch_compile_has_no_graph_break(function):
    boxes = some_boxes(4, 1, torch.float32), some_boxes(4, 2, torch.float32)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*boxes), function(*boxes))
    torch.testing.assert_close(gradients(compiled, *boxes), gradients(function, *boxes))


@pytest.mark.parametrize("function", [box_iou_rotated, matched_iou_rotated])
def test_export_as_program_and_onnx_gives_equal_output(function):
    boxes = some_boxes(6, 1, torch.float32), some_boxes(6, 2, torch.float32)
    check_export(function, *boxes, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("boxes1", "boxes2", "match"),
    [
        (torch.zeros(3, 4), torch.zeros(3, 5), r"boxes1 must be \(N, 5\) XYWHA, got \(3, 4\)"),
        (torch.zeros(3, 5), torch.zeros(5), r"boxes2 must be \(N, 5\)"),
        (torch.zeros(3, 5).int(), torch.zeros(3, 5), "boxes1 must be floats"),
        (torch.zeros(3, 5), torch.zeros(3, 5).double(), "expected one dtype"),
        (torch.zeros(3, 5), torch.zeros(3, 5, device="meta"), "expected one device"),
    ],
)
@pytest.mark.parametrize("function", [box_iou_rotated, matched_iou_rotated])
def test_invalid_arguments_raise_value_error(function, boxes1, boxes2, match):
    with pytest.raises(ValueError, match=match):
        function(boxes1, boxes2)


def test_matched_iou_of_different_counts_raises():
    with pytest.raises(ValueError, match="number of boxes, got 3 and 2"):
        matched_iou_rotated(torch.zeros(3, 5), torch.zeros(2, 5))
