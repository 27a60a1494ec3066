"""Saving and loading models."""

from fvcore.common.checkpoint import Checkpointer, PeriodicCheckpointer

from . import catalog  # noqa: F401  (registers catalog:// addresses)
from .detection_checkpoint import DetectionCheckpointer

__all__ = ["Checkpointer", "DetectionCheckpointer", "PeriodicCheckpointer"]
