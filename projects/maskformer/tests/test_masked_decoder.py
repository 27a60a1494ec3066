"""The attention masks of Mask2Former."""

import torch

from d2ext.projects.maskformer.modeling.masked_decoder import (
    MaskedDecoderLayer,
    allow_blind,
    blocked_pixels,
)


def test_pixels_outside_of_the_resized_mask_are_blocked():
    masks = torch.full((1, 1, 4, 4), -1.0)
    masks[..., :2] = 3.0
    assert blocked_pixels(masks, (2, 2)).tolist() == [[[False, True, False, True]]]
    # The mean of the logits decides, not that of the decisions: three of four pixels are outside.
    masks = torch.tensor([[[[-1.0, -1.0], [-1.0, 4.0]]]])
    assert blocked_pixels(masks, (1, 1)).tolist() == [[[False]]]


def test_a_query_that_may_not_look_anywhere_looks_everywhere():
    blocked = torch.tensor([[[True, True, True], [True, False, True]]])
    assert allow_blind(blocked).tolist() == [[[False] * 3, [True, False, True]]]


def test_blocked_pixels_have_no_influence():
    torch.manual_seed(0)
    layer = MaskedDecoderLayer(8, 2, 16).eval()
    queries, position, pixels = torch.randn(1, 2, 8), torch.randn(1, 2, 8), torch.randn(1, 5, 8)
    blocked = torch.zeros(1, 2, 5, dtype=torch.bool)
    blocked[..., 3:] = True
    changed = pixels.clone()
    changed[:, 3:] += 10
    outputs = [layer(queries, position, tokens, tokens, blocked) for tokens in (pixels, changed)]
    torch.testing.assert_close(*outputs)
    opened = layer(queries, position, changed, changed, torch.zeros_like(blocked))
    assert not torch.allclose(opened, outputs[1])
