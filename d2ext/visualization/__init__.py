"""Figures and annotated images of data sets, training curves and predictions."""

from d2ext.visualization.class_counts import save_class_counts
from d2ext.visualization.curves import save_curves
from d2ext.visualization.marks import annotate
from d2ext.visualization.predictions import save_predictions
from d2ext.visualization.results import register_results_picture, save_results_picture

__all__ = [
    "annotate",
    "register_results_picture",
    "save_class_counts",
    "save_curves",
    "save_predictions",
    "save_results_picture",
]
