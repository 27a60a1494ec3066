import torch
from torch import nn

from d2ext.modeling.transformer.deformable_encoder import FlatLevels
from d2ext.projects.detr.modeling.two_stage import ProposalHead, Proposals, token_anchors

CHANNELS = 4


def levels(*masks: torch.Tensor) -> FlatLevels:
    maps = [torch.zeros(1, CHANNELS, *mask.shape[-2:]) for mask in masks]
    return FlatLevels.from_maps(maps, maps, masks)


def unpadded(height: int, width: int) -> torch.Tensor:
    return torch.zeros(1, height, width, dtype=torch.bool)


def test_anchors_are_centered_on_their_token_and_double_from_level_to_level():
    anchors, invalid = token_anchors(levels(unpadded(1, 2), unpadded(1, 1)))
    expected = [[0.25, 0.5, 0.05, 0.05], [0.75, 0.5, 0.05, 0.05], [0.5, 0.5, 0.1, 0.1]]
    torch.testing.assert_close(anchors.sigmoid()[0], torch.tensor(expected))
    assert not invalid.any()


def test_anchors_are_in_parts_of_the_unpadded_image():
    mask = torch.tensor([[[False, False, True]]])
    anchors, invalid = token_anchors(levels(mask))
    torch.testing.assert_close(anchors[0, :2, 0].sigmoid(), torch.tensor([0.25, 0.75]))
    assert invalid[0, :, 0].tolist() == [False, False, True]
    assert anchors[0, 2].isinf().all()


def test_tokens_at_the_very_border_are_invalid():
    # Of 50 columns the first and the last are centered at exactly 0.01 and 0.99.
    _, invalid = token_anchors(levels(unpadded(3, 50)))
    assert invalid.view(3, 50).any(0).nonzero().flatten().tolist() == [0, 49]
    padded = torch.zeros(1, 3, 64, dtype=torch.bool)
    padded[..., 50:] = True
    _, invalid = token_anchors(levels(padded))
    assert invalid.view(3, 64).any(0).nonzero().flatten().tolist() == [0, *range(49, 64)]


def test_boxes_as_large_as_the_image_are_invalid():
    _, invalid = token_anchors(levels(*[unpadded(1, 1)] * 6))
    assert invalid.flatten().tolist() == [False] * 5 + [True]  # 0.05 * 2 ** 5 is above one


def test_padded_tokens_have_no_influence_on_what_their_heads_predict():
    torch.manual_seed(0)
    head, linear = ProposalHead(CHANNELS), nn.Linear(CHANNELS, 4)
    layout = levels(torch.tensor([[[False, True]]]))
    memory = torch.randn(1, 2, CHANNELS)
    changed = memory.clone()
    changed[:, 1] += 1
    first, second = (head(each, layout, linear, linear) for each in (memory, changed))
    torch.testing.assert_close(first.logits, second.logits)
    assert first.boxes[0, 1].sigmoid().tolist() == [1, 1, 1, 1]


def test_the_best_proposals_come_in_falling_order_and_are_all_there_is_if_few():
    tokens = torch.arange(3.0).view(1, 3, 1)
    proposals = Proposals(tokens, tokens, tokens, tokens)
    scores = torch.tensor([[0.1, 0.9, 0.5]])
    chosen, index = proposals.top(scores, 2)
    assert index.tolist() == [[1, 2]]
    assert chosen.boxes.flatten().tolist() == [1, 2]
    assert proposals.top(scores, 5)[1].tolist() == [[1, 2, 0]]
