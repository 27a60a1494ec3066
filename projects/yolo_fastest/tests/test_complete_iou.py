import pytest
import torch
from torchvision.ops import box_convert, complete_box_iou_loss

from d2ext.projects.yolo_fastest.modeling.complete_iou import complete_iou


def test_it_equals_torchvisions_ciou_for_boxes_of_some_size():
    generator = torch.Generator().manual_seed(0)
    boxes, targets = (torch.rand(50, 4, generator=generator) + 0.1 for _ in range(2))
    boxes.requires_grad_()
    corners = [box_convert(each, "cxcywh", "xyxy") for each in (boxes, targets)]
    expected = 1 - complete_box_iou_loss(*corners)
    found = complete_iou(boxes, targets)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(each.sum(), boxes)[0] for each in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_a_box_on_its_target_is_one():
    box = torch.tensor([[3.0, 4.0, 2.0, 1.0]])
    assert complete_iou(box, box).item() == pytest.approx(1.0)


@pytest.mark.parametrize("sides", [(0.0, 0.0), (1e-14, 1e-14), (1e-20, 3.0), (3.0, 0.0)])
def test_boxes_thinner_than_rounding_have_a_finite_value_and_gradient(sides):
    box = torch.tensor([[3.0, 4.0, *sides]], requires_grad=True)
    value = complete_iou(box, torch.tensor([[3.1, 4.0, 2.0, 1.0]]))
    value.backward()
    assert value.isfinite().all()
    assert box.grad.isfinite().all()
