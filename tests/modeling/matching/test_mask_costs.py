import pytest
import torch

from d2ext.modeling.losses.masks import dice_loss, mask_cross_entropy, mask_focal_loss
from d2ext.modeling.matching.mask_costs import (
    pairwise_cross_entropy,
    pairwise_dice,
    pairwise_focal,
)


@pytest.mark.parametrize(
    ("pairwise", "paired"),
    [
        (pairwise_dice, dice_loss),
        (pairwise_focal, mask_focal_loss),
        (pairwise_cross_entropy, mask_cross_entropy),
    ],
)
def test_the_cost_of_a_pair_is_its_loss(pairwise, paired):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(5, 40, generator=generator)
    targets = (torch.rand(3, 40, generator=generator) > 0.6).float()
    costs = pairwise(logits, targets)
    assert costs.shape == (3, 5)
    for target, row in zip(targets, costs, strict=True):
        torch.testing.assert_close(row, paired(logits, target.expand(5, -1)))
    assert pairwise(logits, targets[:0]).shape == (0, 5)


def test_the_cross_entropy_takes_interpolated_targets():
    logits, targets = torch.tensor([[2.0, -1.0]]), torch.tensor([[0.25, 0.5]])
    expected = mask_cross_entropy(logits, targets)
    torch.testing.assert_close(pairwise_cross_entropy(logits, targets)[0], expected)
