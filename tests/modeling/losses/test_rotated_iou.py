import pytest
import torch

from d2ext.modeling.losses import rotated_iou_loss

PREDICTED = torch.tensor([[5.0, 3, 4, 2, 30], [5, 3, 4, 2, 0], [5, 3, 4, 2, 0], [5, 3, 4, 2, 10]])
TARGET = torch.tensor([[5.0, 3, 4, 2, 210], [6, 3, 4, 2, 180], [90, 3, 4, 2, 0], [5, 3, 2, 1, 10]])


def test_it_is_one_less_the_overlap():
    # Identical, shifted by a quarter, apart, nested with a quarter of the area.
    expected = torch.tensor([0, 1 - 6 / 10, 1, 0.75])
    loss = rotated_iou_loss(PREDICTED, TARGET)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(rotated_iou_loss(PREDICTED, TARGET, "sum"), expected.sum())
    torch.testing.assert_close(rotated_iou_loss(PREDICTED, TARGET, "mean"), expected.mean())


def test_gradients_are_finite_and_point_to_the_target():
    predicted = PREDICTED.clone().requires_grad_()
    (grad,) = torch.autograd.grad(rotated_iou_loss(predicted, TARGET, "sum"), predicted)
    assert grad.isfinite().all()
    assert not grad[[0, 2]].any()  # nothing to gain, and nothing known
    assert grad[1, 0] < 0  # to the right
    assert (grad[3, 2:4] > 0).all()  # smaller


def test_descent_turns_a_box_onto_its_target():
    target = torch.tensor([[50.0, 40, 30, 10, 25]], dtype=torch.float64)
    box = (target + target.new_tensor([[3, -2, 5, 4, -12]])).requires_grad_()
    optimizer = torch.optim.Adam([box], lr=0.3)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 0.3 * (1 - step / 300)
        optimizer.zero_grad()
        rotated_iou_loss(box, target, "sum").backward()
        optimizer.step()
    assert rotated_iou_loss(box, target, "sum") < 0.01


def test_no_boxes_have_no_loss():
    empty = torch.zeros(0, 5, requires_grad=True)
    assert rotated_iou_loss(empty, empty).shape == (0,)
    loss = rotated_iou_loss(empty, empty, "mean")
    assert loss == 0
    assert torch.autograd.grad(loss, empty)[0].shape == (0, 5)


def test_an_unknown_reduction_is_an_error():
    with pytest.raises(ValueError, match="got 'max'"):
        rotated_iou_loss(PREDICTED, TARGET, "max")
