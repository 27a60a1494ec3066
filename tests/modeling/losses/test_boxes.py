import pytest
import torch
from torchvision.ops import generalized_box_iou

from d2ext.modeling.losses.boxes import cxcywh_to_xyxy, generalized_iou, xyxy_to_cxcywh


def some_boxes(count: int, seed: int) -> torch.Tensor:
    corners = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(seed))
    return torch.cat((corners.amin(1), corners.amax(1)), dim=1)


def test_formats_are_converted_both_ways():
    boxes = torch.tensor([[0.5, 0.4, 0.2, 0.6]])
    torch.testing.assert_close(cxcywh_to_xyxy(boxes), torch.tensor([[0.4, 0.1, 0.6, 0.7]]))
    torch.testing.assert_close(xyxy_to_cxcywh(cxcywh_to_xyxy(boxes)), boxes)


def test_pairwise_giou_is_torchvisions():
    boxes, others = some_boxes(5, 0), some_boxes(7, 1)
    found = generalized_iou(boxes[:, None], others)
    torch.testing.assert_close(found, generalized_box_iou(boxes, others))


def test_pairs_are_the_diagonal_of_all():
    boxes, others = some_boxes(5, 0), some_boxes(5, 1)
    pairwise = generalized_iou(boxes[:, None], others)
    torch.testing.assert_close(generalized_iou(boxes, others), pairwise.diagonal())


def test_two_boxes_by_hand():
    boxes, others = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 1, 3, 3]])
    assert generalized_iou(boxes, others).item() == pytest.approx(1 / 7 - 2 / 9)
    assert generalized_iou(boxes, others, eps=1.0).item() == pytest.approx(1 / 8 - 2 / 10)


def test_empty_boxes_are_finite_with_finite_gradients():
    boxes = torch.full((1, 4), 0.3, requires_grad=True)
    value = generalized_iou(boxes, torch.full((1, 4), 0.3)).sum()
    value.backward()
    assert value.isfinite()
    assert boxes.grad.isfinite().all()
