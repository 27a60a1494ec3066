"""Parts of transformers for detection: attention, encoders, decoders and position encodings."""

from d2ext.modeling.transformer.attention import MultiheadAttention, multi_head_attention
from d2ext.modeling.transformer.decoder import TransformerDecoder, TransformerDecoderLayer
from d2ext.modeling.transformer.dropout import Dropout
from d2ext.modeling.transformer.encoder import (
    TransformerEncoder,
    TransformerEncoderLayer,
    run_layer,
)
from d2ext.modeling.transformer.inverse_sigmoid import inverse_sigmoid
from d2ext.modeling.transformer.mlp import MLP, FeedForward
from d2ext.modeling.transformer.position_encoding import (
    SinePositionEncoding,
    resize_mask,
    sine_embedding,
)

__all__ = [
    "MLP",
    "Dropout",
    "FeedForward",
    "MultiheadAttention",
    "SinePositionEncoding",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "inverse_sigmoid",
    "multi_head_attention",
    "resize_mask",
    "run_layer",
    "sine_embedding",
]
