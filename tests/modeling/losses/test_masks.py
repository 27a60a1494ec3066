import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from d2ext.modeling.losses.masks import dice_loss, mask_focal_loss


def test_dice_by_hand():
    logits = torch.tensor([[0.0, 0.0, 100.0, -100.0]])  # scores 0.5, 0.5, 1, 0
    targets = torch.tensor([[True, False, True, False]])
    assert dice_loss(logits, targets).item() == pytest.approx(1 - (2 * 1.5 + 1) / (2 + 2 + 1))


def test_empty_masks_agree():
    logits, targets = torch.full((1, 4), -100.0), torch.zeros(1, 4, dtype=torch.bool)
    assert dice_loss(logits, targets).item() == pytest.approx(0)


def test_the_focal_loss_is_the_mean_over_a_masks_pixels():
    logits = torch.randn(3, 20, generator=torch.Generator().manual_seed(0))
    targets = logits.roll(1) > 0
    expected = sigmoid_focal_loss(logits, targets.float(), reduction="none").mean(1)
    torch.testing.assert_close(mask_focal_loss(logits, targets), expected)


def test_no_masks_have_no_loss_and_a_gradient():
    logits = torch.zeros(0, 9, requires_grad=True)
    total = mask_focal_loss(logits, torch.zeros(0, 9)).sum() + dice_loss(logits, logits).sum()
    assert total == 0
    total.backward()
