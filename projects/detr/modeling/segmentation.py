"""The mask head of DETR: attention maps of the queries, refined by finer maps of the backbone.

Source: Carion et al., "End-to-End Object Detection with Transformers", 2020, arXiv:2005.12872,
section 4.4 and figure 8.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 8  # of the group norms


class AttentionMaps(nn.Module):
    """Attention weights of every query on the pixels of the memory, per head.

    Args:
        channels: width of queries and memory.
        num_heads: number of maps per query.
    """

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_linear, self.k_linear = nn.Linear(channels, channels), nn.Linear(channels, channels)
        for linear in (self.q_linear, self.k_linear):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, queries: Tensor, memory: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Compute the maps.

        Args:
            queries: (B, Q, C).
            memory: (B, S, C).
            padding_mask: (B, S) bool, True on padding.
        Returns:
            (B, Q, heads, S); the softmax runs over heads and pixels together, as published.
        """
        query = self.q_linear(queries).unflatten(-1, (self.num_heads, -1))
        key = self.k_linear(memory).unflatten(-1, (self.num_heads, -1))
        weights = torch.einsum("bqhc,bshc->bqhs", query * query.shape[-1] ** -0.5, key)
        if padding_mask is not None:
            weights = weights.masked_fill(padding_mask[:, None, None], float("-inf"))
        return weights.flatten(2).softmax(-1).view_as(weights)


class MaskHead(nn.Module):
    """Predicts a mask per query at the resolution of the finest backbone map.

    Args:
        channels: width of queries and memory.
        num_heads: attention maps per query.
        finer_channels: widths of three finer backbone maps, the coarsest first.
    """

    def __init__(self, channels: int, num_heads: int, finer_channels: Sequence[int]) -> None:
        super().__init__()
        width = channels + num_heads
        widths = [width, width, *(channels // divisor for divisor in (2, 4, 8, 16))]
        self.attention = AttentionMaps(channels, num_heads)
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1) for before, after in pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, after) for after in widths[1:])
        self.adapters = nn.ModuleList(map(_adapter, finer_channels, widths[2:5]))
        self.predictor = nn.Conv2d(widths[-1], 1, 3, padding=1)
        for module in (*self.convs, *self.adapters, self.predictor):
            nn.init.kaiming_uniform_(module.weight, a=1)
            nn.init.zeros_(module.bias)

    def forward(
        self,
        queries: Tensor,
        feature: Tensor,
        memory: Tensor,
        padding_mask: Tensor | None,
        finer: Sequence[Tensor],
    ) -> Tensor:
        """Predict masks.

        Args:
            queries: (B, Q, C) decoder output.
            feature: (B, C, H, W) projected backbone map.
            memory: (B, H * W, C) encoder output.
            padding_mask: (B, H * W) bool, True on padding.
            finer: three backbone maps (B, D_i, H_i, W_i), the coarsest first.
        Returns:
            (B, Q, h, w) logits at the size of the last finer map.
        """
        batch, count = queries.shape[:2]
        maps = self.attention(queries, memory, padding_mask).unflatten(-1, feature.shape[-2:])
        masks = torch.cat((feature.repeat_interleave(count, 0), maps.flatten(0, 1)), dim=1)
        masks = self._block(1, self._block(0, masks))
        for index, (adapter, level) in enumerate(zip(self.adapters, finer, strict=True)):
            lateral = adapter(level).repeat_interleave(count, 0)
            masks = lateral + F.interpolate(masks, size=lateral.shape[-2:])
            masks = self._block(index + 2, masks)
        return self.predictor(masks).squeeze(1).unflatten(0, (batch, count))

    def _block(self, index: int, masks: Tensor) -> Tensor:
        return self.norms[index](self.convs[index](masks)).relu()


def _adapter(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 1)


def binary_masks(logits: Tensor, thresh: float) -> Tensor:
    """Return the pixels whose mask probability is higher than `thresh`."""
    return logits.sigmoid() > thresh
