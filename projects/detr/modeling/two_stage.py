"""Region proposals of the encoder's tokens: stage one of two-stage Deformable DETR and of DINO.

Sources: Zhu et al., "Deformable DETR", 2020, arXiv:2010.04159, appendix A.4; Zhang et al., "DINO",
2022, arXiv:2203.03605, section 3.4.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from d2ext.modeling.transformer.deformable_encoder import FlatLevels

FINEST_SIZE = 0.05  # sides of the anchors of the finest level, in parts of the image
MARGIN = 0.01  # centers and sides of valid anchors keep this distance from 0 and 1


@dataclass(frozen=True)
class Proposals:
    """A box for each of S tokens.

    Attributes:
        tokens: (B, S, channels), projected and normed.
        anchors: (B, S, 4) logits of the boxes that the tokens start from; infinite where invalid.
        logits: (B, S, K) class logits.
        boxes: (B, S, 4) logits of normalised cxcywh.
    """

    tokens: Tensor
    anchors: Tensor
    logits: Tensor
    boxes: Tensor

    def top(self, scores: Tensor, count: int) -> tuple["Proposals", Tensor]:
        """Return the `count` proposals of the highest `scores` (B, S) and their indices.

        They are in falling order of score; where an image has fewer tokens, all are returned.
        """
        index = scores.topk(min(count, scores.shape[1]), dim=1).indices
        fields = (self.tokens, self.anchors, self.logits, self.boxes)
        chosen = [
            each.gather(1, index[..., None].expand(*index.shape, each.shape[-1])) for each in fields
        ]
        return Proposals(*chosen), index


class ProposalHead(nn.Module):
    """Projects the tokens of the encoder, from which heads predict a box each.

    Args:
        channels: width of the tokens.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enc_output = nn.Linear(channels, channels)
        self.enc_output_norm = nn.LayerNorm(channels)

    def forward(
        self, memory: Tensor, levels: FlatLevels, class_head: nn.Module, box_head: nn.Module
    ) -> Proposals:
        """Propose a box for each token of the memory, (B, S, channels)."""
        anchors, invalid = token_anchors(levels)
        tokens = self.enc_output_norm(self.enc_output(memory.masked_fill(invalid, 0)))
        return Proposals(tokens, anchors, class_head(tokens), box_head(tokens) + anchors)


def token_anchors(levels: FlatLevels) -> tuple[Tensor, Tensor]:
    """Compute a box around each token, whose sides double from level to level.

    Returns:
        (B, S, 4) logits of normalised cxcywh, infinite where invalid; (B, S, 1) bool, True where a
        token is padding or its box is too near the border, or too large.
    """
    parts = []
    for level, (height, width) in enumerate(levels.spatial_shapes):
        ratios = levels.valid_ratios[:, level]
        # Whole tokens: a center that rounding moves across the margin would be another anchor.
        valid = (ratios * ratios.new_tensor([width, height])).round()
        y = torch.arange(height, device=ratios.device) + 0.5
        x = torch.arange(width, device=ratios.device) + 0.5
        grid = torch.stack(torch.broadcast_tensors(x, y[:, None]), -1).flatten(0, 1)
        centers = grid / valid[:, None]
        parts.append(torch.cat((centers, torch.full_like(centers, FINEST_SIZE * 2**level)), -1))
    boxes = torch.cat(parts, 1)
    inside = ((boxes > MARGIN) & (boxes < 1 - MARGIN)).all(-1, keepdim=True)
    invalid = ~inside | levels.padding_mask[..., None]
    return (boxes / (1 - boxes)).log().masked_fill(invalid, torch.inf), invalid
