"""Figures and annotated images: of data sets, training curves and predictions."""

from d2ext.visualization.class_counts import save_class_counts
from d2ext.visualization.curves import save_curves
from d2ext.visualization.drawing import annotate
from d2ext.visualization.predictions import save_predictions

__all__ = ["annotate", "save_class_counts", "save_curves", "save_predictions"]
