"""Measuring predictions, and pictures of data, training and predictions."""

from d2ext.evaluation.build import build_evaluator
from d2ext.evaluation.class_counts import save_class_counts
from d2ext.evaluation.curves import save_curves
from d2ext.evaluation.drawing import annotate
from d2ext.evaluation.predictions import save_predictions
from d2ext.evaluation.views import with_views

__all__ = [
    "annotate",
    "build_evaluator",
    "save_class_counts",
    "save_curves",
    "save_predictions",
    "with_views",
]
