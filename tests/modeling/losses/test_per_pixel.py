import pytest
import torch
import torch.nn.functional as F

from d2ext.modeling.losses.per_pixel import hard_pixel_cross_entropy


@pytest.fixture
def pixels() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, 4, generator=generator)
    labels = torch.randint(0, 3, (2, 5, 4), generator=generator)
    labels[0, 0] = 255
    return logits, labels


def test_the_hardest_fifth_of_all_pixels_counts(pixels):
    loss = F.cross_entropy(*pixels, ignore_index=255, reduction="none").flatten()
    expected = loss.sort(descending=True).values[:8].mean()  # of 40
    torch.testing.assert_close(hard_pixel_cross_entropy(*pixels, 0.2, 255), expected)


def test_a_fraction_of_one_is_the_mean_over_labelled_pixels(pixels):
    expected = F.cross_entropy(*pixels, ignore_index=255)
    torch.testing.assert_close(hard_pixel_cross_entropy(*pixels, 1.0, 255), expected)


@pytest.mark.parametrize("fraction", [0.2, 1.0])
def test_without_labels_the_loss_is_zero(pixels, fraction):
    logits, labels = pixels
    assert hard_pixel_cross_entropy(logits, torch.full_like(labels, 255), fraction, 255) == 0
