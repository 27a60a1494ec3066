import torch

from d2ext.modeling.losses import ltrb_centerness, ltrb_iou


def test_equal_boxes_have_iou_one():
    boxes = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    iou, giou = ltrb_iou(boxes, boxes)
    assert iou.item() == giou.item() == 1


def test_iou_of_enlarged_areas_and_the_hull():
    # 4x4 around the location and 8x4: 16 of 32 are shared, and the hull is the larger.
    iou, giou = ltrb_iou(torch.tensor([[2.0, 2, 2, 2]]), torch.tensor([[2.0, 2, 6, 2]]))
    torch.testing.assert_close(iou, torch.tensor([17 / 33]))
    torch.testing.assert_close(giou, torch.tensor([17 / 33]))
    # Crossing 2x6 and 6x2: 4 of 20 are shared, in a hull of 36.
    iou, giou = ltrb_iou(torch.tensor([[1.0, 3, 1, 3]]), torch.tensor([[3.0, 1, 3, 1]]))
    torch.testing.assert_close(giou, torch.tensor([5 / 21 - 16 / 36]))


def test_a_prediction_without_area_has_finite_gradients():
    predicted = torch.zeros(1, 4, requires_grad=True)
    sum(ltrb_iou(predicted, torch.ones(1, 4))).sum().backward()
    assert predicted.grad.isfinite().all()


def test_centerness_of_a_quarter():
    # Left 1 of 4 and right 3: a third; top and bottom alike.
    torch.testing.assert_close(
        ltrb_centerness(torch.tensor([[1.0, 2, 3, 2]])), torch.tensor([3**-0.5])
    )
