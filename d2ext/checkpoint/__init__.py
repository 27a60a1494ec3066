"""Checkpoints: saving, loading, resuming, and conversion of published ones."""

from d2ext.checkpoint.checkpointer import Checkpointer, load_for_evaluation
from d2ext.checkpoint.conversion import convert_official
from d2ext.checkpoint.file_io import last_checkpoint, read_checkpoint, read_metadata
from d2ext.checkpoint.key_matching import check_classes
from d2ext.checkpoint.uri import local_file

__all__ = [
    "Checkpointer",
    "check_classes",
    "convert_official",
    "last_checkpoint",
    "load_for_evaluation",
    "local_file",
    "read_checkpoint",
    "read_metadata",
]
