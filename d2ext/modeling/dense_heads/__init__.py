"""Dense heads: heads that predict at every cell of a feature pyramid; importing registers them."""

from d2ext.modeling.dense_heads.atss import ATSSHead, ATSSPredictions
from d2ext.modeling.dense_heads.dense_head import (
    DenseHead,
    LevelPredictions,
    cell_centers,
    flatten_cells,
    head_options,
)
from d2ext.modeling.dense_heads.fcos import FCOSHead, FCOSPredictions
from d2ext.modeling.dense_heads.postprocess import PostProcess
from d2ext.modeling.dense_heads.registry import DENSE_HEAD_REGISTRY, build_dense_head
from d2ext.modeling.dense_heads.rotated_fcos import RotatedFCOSHead, RotatedFCOSPredictions

__all__ = [
    "DENSE_HEAD_REGISTRY",
    "ATSSHead",
    "ATSSPredictions",
    "DenseHead",
    "FCOSHead",
    "FCOSPredictions",
    "LevelPredictions",
    "PostProcess",
    "RotatedFCOSHead",
    "RotatedFCOSPredictions",
    "build_dense_head",
    "cell_centers",
    "flatten_cells",
    "head_options",
]
