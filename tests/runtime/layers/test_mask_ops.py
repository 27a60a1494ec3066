"""Helpers of mask pasting."""

import pytest
import torch

import d2ext  # noqa: F401
from detectron2.layers.mask_ops import pad_masks, paste_mask_in_image_old, scale_boxes


def test_a_padded_mask_in_a_scaled_box_stays_where_it_was():
    padded, scale = pad_masks(torch.ones(1, 4, 4), 1)
    assert padded.shape == (1, 6, 6)
    assert (padded.sum(), scale) == (16, 1.5)
    assert scale_boxes(torch.tensor([[2.0, 2, 6, 10]]), scale).tolist() == [[1, 0, 7, 12]]


def test_the_detectron1_pasting_rounds_boxes_down_and_includes_their_last_pixel():
    image = paste_mask_in_image_old(torch.ones(3, 3), torch.tensor([1.9, 2, 3.9, 3]), 5, 6, 0.5)
    assert image.dtype == torch.uint8
    assert image.nonzero().tolist() == [[2, 1], [2, 2], [2, 3], [3, 1], [3, 2], [3, 3]]


def test_the_detectron1_pasting_clips_boxes_at_the_border():
    box = torch.tensor([-2.0, -2, 1, 9])
    assert paste_mask_in_image_old(torch.ones(3, 3), box, 4, 4, 0.5).sum() == 2 * 4
    probabilities = paste_mask_in_image_old(torch.full((3, 3), 0.4), box, 4, 4, -1)
    assert probabilities.max().item() == pytest.approx(102)
