"""DETR: a transformer decoder turns learned queries into objects.

Source: Carion et al., "End-to-End Object Detection with Transformers", 2020, arXiv:2005.12872.
"""

from typing import Any

import torch
from torch import Tensor, nn

from d2ext.checkpoint import local_file, read_checkpoint
from d2ext.checkpoint.state_dict import extract_state_dict
from d2ext.data import DatasetStats
from d2ext.modeling.set_prediction import SetPredictions
from d2ext.modeling.transformer import TransformerDecoder, TransformerDecoderLayer
from d2ext.projects.detr.modeling.single_scale import (
    Memory,
    SingleScaleDETR,
    layer_options,
    reset_xavier,
)
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY

FEW_IMAGES = 10_000  # of training data, on which plain DETR does not learn from scratch


@META_ARCH_REGISTRY.register()
class DETR(SingleScaleDETR):
    """DETR: queries are learned positions; their content starts at zero.

    Args:
        num_queries: number of queries, the most objects that an image can have.
        decoder: transformer decoder.
        options: those of `SingleScaleDETR`.
    """

    @configurable
    def __init__(self, *, num_queries: int, decoder: TransformerDecoder, **options: Any) -> None:
        super().__init__(**options)
        self.decoder = decoder
        self.query_embed = nn.Embedding(num_queries, options["channels"])
        reset_xavier(decoder)
        self.freeze()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        detr = cfg.MODEL.DETR
        layer = TransformerDecoderLayer(**layer_options(cfg), pre_norm=detr.PRE_NORM)
        norm = nn.LayerNorm(detr.CHANNELS)
        decoder = TransformerDecoder(layer, detr.DECODER_LAYERS, norm, detr.USE_CHECKPOINT)
        return {**super().from_config(cfg), "num_queries": detr.NUM_QUERIES, "decoder": decoder}

    @classmethod
    def check_data(cls, cfg: CfgNode, stats: DatasetStats) -> list[str]:
        notes = super().check_data(cfg, stats)
        if stats.num_images < FEW_IMAGES and not _starts_from_detr(cfg.MODEL.WEIGHTS):
            notes.append(
                f"DETR is to learn from {stats.num_images} images without starting from a trained "
                f"DETR: on fewer than {FEW_IMAGES} images expect an AP near 0, even after hundreds "
                "of epochs. Start from the published weights with projects/detr/configs/"
                "detr_r50_finetune.yaml, or take projects/detr/configs/dino_regnetx200m.yaml, "
                "which learns from hundreds of images."
            )
        return notes

    def decode(self, memory: Memory) -> tuple[SetPredictions, Tensor]:
        position = self.query_embed.weight.expand(memory.tokens.shape[0], -1, -1)
        hidden = self.decoder(
            torch.zeros_like(position),
            position,
            memory.tokens,
            memory.position,
            memory.padding_mask,
        )
        boxes = self.bbox_embed(hidden).sigmoid()
        return SetPredictions(self.class_embed(hidden), boxes), hidden[-1]


def _starts_from_detr(weights: str) -> bool:
    """Return True if a file of weights has the queries of a DETR."""
    if not weights:
        return False
    names = extract_state_dict(read_checkpoint(local_file(weights)))
    return any(name.endswith("query_embed.weight") for name in names)
