"""Reading and writing of checkpoints, and of those that others published."""

from d2ext.checkpoint.official import convert_official

__all__ = ["convert_official"]
