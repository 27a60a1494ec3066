import torch

from d2ext.modeling.losses import centerness


def test_it_is_one_at_the_centre_and_falls_to_the_border():
    boxes = torch.tensor([[0.0, 0.0, 8.0, 4.0]]).expand(3, 4)
    points = torch.tensor([[4.0, 2.0], [2.0, 2.0], [0.0, 2.0]])
    # Left 2 and right 6: the square root of a third.
    torch.testing.assert_close(centerness(points, boxes), torch.tensor([1.0, 3**-0.5, 0.0]))


def test_no_points_give_no_values():
    assert centerness(torch.zeros(0, 2), torch.zeros(0, 4)).shape == (0,)
