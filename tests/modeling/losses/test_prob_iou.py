import math

import torch

from d2ext.modeling.losses import prob_iou

BOX = torch.tensor([[30.0, 40.0, 20.0, 8.0, 25.0]], dtype=torch.float64)


def moved(**changes: float) -> torch.Tensor:
    box = BOX.clone()
    for name, change in changes.items():
        box[0, ["x", "y", "w", "h", "a"].index(name)] += change
    return box


def test_equal_boxes_have_one_however_they_are_written():
    turned, swapped = moved(a=180.0), BOX[:, [0, 1, 3, 2, 4]] + torch.tensor([0, 0, 0, 0, 90.0])
    for other in (BOX, turned, swapped):
        assert prob_iou(BOX, other) > 0.99


def test_it_is_the_hellinger_affinity_of_two_normal_distributions():
    # Variances along the sides are w^2 / 12 and h^2 / 12; shift by d along the width.
    angle, d = math.radians(25), 5.0
    other = moved(x=d * math.cos(angle), y=-d * math.sin(angle))
    distance = d**2 / (8 * 20.0**2 / 12)
    expected = 1 - math.sqrt(1 - math.exp(-distance))
    torch.testing.assert_close(prob_iou(BOX, other).item(), expected, rtol=1e-5, atol=1e-6)


def test_boxes_apart_still_have_a_gradient_towards_each_other():
    far = moved(x=40.0).requires_grad_()
    (1 - prob_iou(far, BOX)).sum().backward()
    assert far.grad[0, 0] > 0


def test_gradients_of_equal_boxes_are_finite():
    same = BOX.clone().requires_grad_()
    prob_iou(same, BOX).sum().backward()
    assert same.grad.isfinite().all()
