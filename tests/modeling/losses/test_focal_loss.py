import torch
from fvcore.nn import sigmoid_focal_loss

from d2ext.modeling.losses import dense_focal_loss


def test_it_is_the_focal_loss_of_one_hot_targets_over_all_levels():
    torch.manual_seed(0)
    logits = [torch.randn(2, 6, 3), torch.randn(2, 2, 3)]
    positive = torch.rand(2, 8) < 0.4
    classes = torch.randint(0, 3, (int(positive.sum()),))
    wanted = torch.zeros(2, 8, 3)
    wanted[positive] = torch.nn.functional.one_hot(classes, 3).float()
    expected = sigmoid_focal_loss(torch.cat(logits, 1), wanted, 0.25, 2.0, reduction="sum")
    torch.testing.assert_close(dense_focal_loss(logits, positive, classes, 0.25, 2.0), expected)
