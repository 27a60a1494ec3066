"""Whole models."""

from .build import META_ARCH_REGISTRY, build_model
from .dense_detector import DenseDetector
from .retinanet import RetinaNet

__all__ = ["META_ARCH_REGISTRY", "DenseDetector", "RetinaNet", "build_model"]
