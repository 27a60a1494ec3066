"""Reading and writing of checkpoints, and of those that others published."""

from d2ext.checkpoint.checkpointer import Checkpointer, load_for_evaluation
from d2ext.checkpoint.matching import check_classes
from d2ext.checkpoint.official import convert_official
from d2ext.checkpoint.source import local_file
from d2ext.checkpoint.storage import last_checkpoint, read_checkpoint, read_metadata

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
