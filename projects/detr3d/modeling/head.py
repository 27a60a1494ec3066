"""The head: learned queries, their reference points, the decoder, and the branches' outputs.

Source: Wang et al., "DETR3D", 2021, arXiv:2110.06922, sections 3.3 and 3.4.
"""

import math
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from d2ext.modeling.set_prediction import SetPredictions
from d2ext.projects.detr3d.modeling.box_code import CENTRE, CODE_SIZE, denormalise
from d2ext.projects.detr3d.modeling.decoder import (
    CameraCrossAttention,
    CameraView,
    Decoder,
    DecoderLayer,
)
from detectron2.config import CfgNode


class DETR3DHead(nn.Module):
    """Predicts classes and a box code per query and decoder layer.

    Args:
        num_classes: K.
        num_queries: Q.
        channels: C, of queries and features.
        num_heads, feedforward, dropout: of the decoder layers.
        num_layers: of the decoder.
        num_cameras, num_levels: of the features.
        point_range: least and greatest x, y, z in metres that centres can have.
        prior_prob: class probability that training starts from.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        num_queries: int,
        channels: int,
        num_heads: int,
        feedforward: int,
        dropout: float,
        num_layers: int,
        num_cameras: int,
        num_levels: int,
        point_range: Sequence[float],
        prior_prob: float,
    ) -> None:
        super().__init__()
        self.point_range = tuple(point_range)
        # The first half of an embedding is the query's position, the second its content.
        self.query_embedding = nn.Embedding(num_queries, 2 * channels)
        self.reference_points = nn.Linear(channels, 3)
        cross = CameraCrossAttention(channels, num_cameras, num_levels, point_range, dropout)
        layer = DecoderLayer(cross, channels, num_heads, feedforward, dropout)
        boxes, classes = _box_branch(channels), _class_branch(channels, num_classes)
        _xavier(layer, self.reference_points)
        nn.init.constant_(classes[-1].bias, math.log(prior_prob / (1 - prior_prob)))
        self.decoder = Decoder(_copies(layer, num_layers), _copies(boxes, num_layers))
        self.class_branches = nn.ModuleList(_copies(classes, num_layers))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "DETR3DHead":
        """Build the head that `MODEL.DETR3D` describes."""
        section = cfg.MODEL.DETR3D
        options: dict[str, Any] = {
            key.lower(): section[key]
            for key in (
                *("NUM_CLASSES", "NUM_QUERIES", "CHANNELS", "NUM_HEADS", "FEEDFORWARD", "DROPOUT"),
                *("NUM_LAYERS", "NUM_CAMERAS", "POINT_RANGE", "PRIOR_PROB"),
            )
        }
        return cls(num_levels=len(section.IN_FEATURES), **options)

    def start(self, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return contents (B, Q, C), positions (B, Q, C) and reference points (B, Q, 3)."""
        position, content = self.query_embedding.weight.chunk(2, dim=-1)
        reference = self.reference_points(position).sigmoid()
        return tuple(each.expand(batch, -1, -1) for each in (content, position, reference))

    def forward(self, view: CameraView) -> SetPredictions:
        """Predict (L, B, Q, K) logits and (L, B, Q, 10) codes with centres in metres."""
        content, position, reference = self.start(len(view.lidar2img))
        states, codes, _ = self.decoder(content, position, reference, view)
        layers = zip(self.class_branches, states, strict=True)
        logits = torch.stack([branch(state) for branch, state in layers])
        return SetPredictions(logits, self.in_metres(codes))

    def in_metres(self, codes: Tensor) -> Tensor:
        """Scale the centres of (..., 10) codes from [0, 1] to metres."""
        x, y, z = denormalise(codes[..., CENTRE], self.point_range).split(1, dim=-1)
        return torch.cat((x, y, codes[..., 2:4], z, codes[..., 5:]), dim=-1)


def _copies(module: nn.Module, count: int) -> list[Any]:
    return [deepcopy(module) for _ in range(count)]


def _class_branch(channels: int, num_classes: int) -> nn.Sequential:
    hidden = [(nn.Linear(channels, channels), nn.LayerNorm(channels), nn.ReLU()) for _ in range(2)]
    return nn.Sequential(*hidden[0], *hidden[1], nn.Linear(channels, num_classes))


def _box_branch(channels: int) -> nn.Sequential:
    hidden = [(nn.Linear(channels, channels), nn.ReLU()) for _ in range(2)]
    return nn.Sequential(*hidden[0], *hidden[1], nn.Linear(channels, CODE_SIZE))


def _xavier(layer: DecoderLayer, points: nn.Linear) -> None:
    """Initialise matrices as the authors do; attention weights keep their zeros."""
    kept = layer.cross_attn.attention_weights.weight
    for parameter in (*layer.parameters(), points.weight):
        if parameter.dim() > 1 and parameter is not kept:
            nn.init.xavier_uniform_(parameter)
    nn.init.zeros_(points.bias)
