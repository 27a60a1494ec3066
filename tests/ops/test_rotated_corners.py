"""The operator (compiled where the extension is) and the reference agree, also on gradients."""

import pytest
import torch

from d2ext.ops import reference, rotated_corners
from tests.helpers.op_export import check_export
from tests.helpers.op_inputs import FLOATS, assert_rounds_to
from tests.helpers.rotated_boxes import some_boxes


def test_corners_at_angle_0_go_clockwise_from_the_top_left(device):
    corners = rotated_corners(torch.tensor([[5.0, 3.0, 4.0, 2.0, 0.0]], device=device))
    assert corners.tolist() == [[[3, 2], [7, 2], [7, 4], [3, 4]]]


@pytest.mark.parametrize("angle", [90, -270, 450])
def test_a_quarter_turn_moves_the_top_left_corner_to_the_bottom_left(angle):
    corners = rotated_corners(torch.tensor([[5.0, 3.0, 4.0, 2.0, angle]]))
    assert corners.tolist() == [[[4, 5], [4, 1], [6, 1], [6, 5]]]  # exactly, in the kernel


@pytest.mark.parametrize("count", [0, 1, 7, 3000])
def test_corners_and_gradients_equal_the_reference(count, device):
    boxes = some_boxes(count, device=device).requires_grad_()
    corners = rotated_corners(boxes)
    torch.testing.assert_close(corners, reference.rotated_corners(boxes))
    grad = torch.linspace(-1, 1, corners.numel(), device=device).double().view(corners.shape)
    (own,) = torch.autograd.grad(corners, boxes, grad)
    torch.testing.assert_close(own, reference.rotated_corners_backward(grad, boxes.detach()))


def test_opcheck_and_gradcheck_pass(device):
    boxes = some_boxes(3, device=device).requires_grad_()
    torch.library.opcheck(torch.ops.d2ext.rotated_corners.default, (boxes,))
    assert torch.autograd.gradcheck(rotated_corners, boxes)
    assert torch.autograd.gradcheck(reference.rotated_corners, boxes)
    grad = torch.rand(3, 4, 2, device=device, dtype=torch.float64)
    torch.library.opcheck(
        torch.ops.d2ext.rotated_corners_backward.default,
        (grad, boxes.detach()),
        test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_dynamic"),
    )


def test_double_backward_raises(device):
    boxes = some_boxes(3, device=device).requires_grad_()
    (grad,) = torch.autograd.grad(rotated_corners(boxes).sum(), boxes, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.autograd.grad(grad.sum(), boxes)


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_dtype_differs_from_the_reference_by_rounding(dtype, device):
    boxes = some_boxes(50, dtype=dtype, device=device).requires_grad_()
    exact = boxes.detach().double().requires_grad_()
    own, expected = rotated_corners(boxes), reference.rotated_corners(exact)
    assert own.dtype == dtype
    torch.testing.assert_close(own.double(), expected, rtol=torch.finfo(dtype).eps, atol=1e-4)
    (own,), (expected,) = (
        torch.autograd.grad(corners.square().sum(), leaf)
        for corners, leaf in ((own.double(), boxes), (expected, exact))
    )
    assert own.dtype == dtype
    assert_rounds_to(own, expected, dtype, 4)


def test_strided_boxes_give_the_same_corners(device):
    boxes = some_boxes(6, device=device)
    torch.testing.assert_close(rotated_corners(boxes.mT.contiguous().mT), rotated_corners(boxes))


def test_torch_compile_has_no_graph_break():
    boxes = some_boxes(4, dtype=torch.float32)
    compiled = torch.compile(rotated_corners, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(boxes), rotated_corners(boxes))


def test_export_as_program_and_onnx_gives_equal_output():
    check_export(rotated_corners, some_boxes(4, dtype=torch.float32), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("boxes", "match"),
    [
        (torch.zeros(5), r"boxes must be \(N, 5\) XYWHA, got \(5,\)"),
        (torch.zeros(2, 4), r"boxes must be \(N, 5\)"),
        (torch.zeros(2, 5).long(), "boxes must be floats"),
    ],
)
def test_invalid_arguments_raise_value_error(boxes, match):
    with pytest.raises(ValueError, match=match):
        rotated_corners(boxes)
