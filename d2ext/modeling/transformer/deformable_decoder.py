"""The transformer decoder of Deformable DETR, with box refinement from layer to layer.

Sources: Zhu et al., "Deformable DETR", 2020, arXiv:2010.04159, section 4 and appendix A.4;
Liu et al., "DAB-DETR", 2022, arXiv:2201.12329 (positions from anchors); Zhang et al., "DINO", 2022,
arXiv:2203.03605, section 3.5 (look forward twice).
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from d2ext.layers import MultiScaleDeformableAttention
from d2ext.modeling.transformer.attention import MultiheadAttention
from d2ext.modeling.transformer.deformable_encoder import FlatLevels
from d2ext.modeling.transformer.dropout import Dropout
from d2ext.modeling.transformer.encoder import run_layer
from d2ext.modeling.transformer.inverse_sigmoid import inverse_sigmoid
from d2ext.modeling.transformer.mlp import MLP, FeedForward
from d2ext.modeling.transformer.position_encoding import sine_embedding


@dataclass(frozen=True)
class DecoderStates:
    """What the decoder's layers give.

    Attributes:
        outputs: of each layer what goes into the heads, (B, Q, channels).
        references: normalised points or boxes (B, Q, 2 or 4); entry i enters layer i, and the last
            entry leaves the last layer.
        box_logits: logits of the references as boxes, (B, Q, 4); the heads predict changes of them.
    """

    outputs: list[Tensor]
    references: list[Tensor]
    box_logits: list[Tensor]


def box_logits(references: Tensor, eps: float) -> Tensor:
    """Compute what box heads change, before the sigmoid.

    Args:
        references: (..., 2) points or (..., 4) boxes, normalised.
        eps: see `inverse_sigmoid`.
    Returns:
        (..., 4) of centre and size; sizes of points are 0, half the image.
    """
    logits = inverse_sigmoid(references, eps)
    return F.pad(logits, (0, 2)) if references.shape[-1] == 2 else logits


class DeformableDecoderLayer(nn.Module):
    """Self-attention, deformable cross-attention and feed-forward, each with residual and norm.

    The published names are kept: `norm2` follows the self-attention, `norm1` the cross-attention.

    Args: as those of `DeformableEncoderLayer`.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        feedforward: int,
        num_levels: int,
        num_points: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.self_attn = MultiheadAttention(channels, num_heads, dropout)
        self.cross_attn = MultiScaleDeformableAttention(channels, num_levels, num_heads, num_points)
        self.feed_forward = FeedForward(channels, feedforward, dropout)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        queries: Tensor,
        query_position: Tensor,
        references: Tensor,
        memory: Tensor,
        levels: FlatLevels,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Attend among the queries, then to samples of the memory.

        Args:
            queries: (B, Q, channels).
            query_position: (B, Q, channels).
            references: (B, Q, L, 2 or 4), in parts of each padded map.
            memory: (B, S, channels).
            levels: shapes and padding of the memory.
            attention_mask: (Q, Q) bool, True where a query may not attend to another.
        Returns:
            (B, Q, channels).
        """
        query = queries + query_position
        attended = self.self_attn(query, query, queries, attention_mask=attention_mask)
        queries = self.norm2(queries + self.dropout(attended))
        query = queries + query_position
        attended = self.cross_attn(
            query, references, memory, levels.spatial_shapes, levels.padding_mask
        )
        queries = self.norm1(queries + self.dropout(attended))
        return self.norm3(queries + self.feed_forward(queries))


class AnchorPosition(nn.Module):
    """Query positions from anchor boxes, by an MLP on their sine embedding.

    Args:
        channels: width of the queries; a multiple of 4.
        scaled: from the second layer on the positions are multiplied by an MLP of the queries.
    """

    def __init__(self, channels: int, scaled: bool) -> None:
        super().__init__()
        self.channels = channels
        self.ref_point_head = MLP(2 * channels, channels, channels, 2)
        self.query_scale = MLP(channels, channels, channels, 2) if scaled else None

    def forward(self, anchors: Tensor, queries: Tensor, first: bool) -> Tensor:
        """Map normalised (B, Q, 4) cxcywh and (B, Q, channels) to (B, Q, channels)."""
        position = self.ref_point_head(sine_embedding(anchors, self.channels // 2))
        if self.query_scale is None or first:
            return position
        return position * self.query_scale(queries)


class DeformableDecoder(nn.Module):
    """A stack of deformable decoder layers.

    Args:
        layer: copied `num_layers` times.
        num_layers: number of layers.
        anchor_position: computes query positions from the references; None: they are given.
        norm: of what goes into the heads, if given; not applied between layers.
        look_forward_twice: the boxes of a layer also train the refinement of the layer before.
        eps: of the inverse sigmoid of the references.
        use_checkpoint: gradient checkpointing; layers are computed again in the backward pass.
    """

    def __init__(
        self,
        layer: nn.Module,
        num_layers: int,
        *,
        anchor_position: AnchorPosition | None = None,
        norm: nn.Module | None = None,
        look_forward_twice: bool = False,
        eps: float = 1e-5,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(deepcopy(layer) for _ in range(num_layers))
        self.anchor_position, self.norm = anchor_position, norm
        self.look_forward_twice, self.eps = look_forward_twice, eps
        self.use_checkpoint = use_checkpoint

    def forward(
        self,
        queries: Tensor,
        references: Tensor,
        memory: Tensor,
        levels: FlatLevels,
        *,
        query_position: Tensor | None = None,
        attention_mask: Tensor | None = None,
        box_heads: Sequence[nn.Module] | None = None,
    ) -> DecoderStates:
        """Decode the queries.

        Args:
            queries: (B, Q, channels).
            references: (B, Q, 2) points or (B, Q, 4) boxes, normalised.
            memory: (B, S, channels).
            levels: shapes, padding and valid ratios of the memory.
            query_position: (B, Q, channels), where there is no `anchor_position`.
            attention_mask: (Q, Q) bool, True where a query may not attend to another.
            box_heads: of each layer the head that refines the references; None: they stay.
        """
        outputs, passed = [], [references]
        logits = [box_logits(references, self.eps)]
        ratios = levels.valid_ratios.repeat(1, 1, 2)[:, None]  # of x, y, width, height
        for index, layer in enumerate(self.layers):
            placed = references[:, :, None] * ratios[..., : references.shape[-1]]
            if self.anchor_position is not None:
                query_position = self.anchor_position(placed[:, :, 0], queries, index == 0)
            context = (query_position, placed, memory, levels, attention_mask)
            queries = run_layer(self.use_checkpoint, layer, queries, *context)
            outputs.append(queries if self.norm is None else self.norm(queries))
            if box_heads is None:
                passed.append(references)
                logits.append(logits[-1])
                continue
            refined = (box_heads[index](queries) + logits[-1].detach()).sigmoid()
            references = refined.detach()
            passed.append(refined if self.look_forward_twice else references)
            logits.append(box_logits(passed[-1], self.eps))
        return DecoderStates(outputs, passed, logits)
