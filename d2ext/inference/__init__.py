"""Inference on images, videos and cameras with a trained model."""

from d2ext.inference.demos import DemoRequest, register_demo
from d2ext.inference.prediction_kinds import PredictionKind, register_prediction_kind
from d2ext.inference.predictor import Predictor

__all__ = [
    "DemoRequest",
    "PredictionKind",
    "Predictor",
    "register_demo",
    "register_prediction_kind",
]
