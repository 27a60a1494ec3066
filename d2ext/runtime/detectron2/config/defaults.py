"""The default config, under the name by which packages import and extend it."""

from .config import _C

__all__ = ["_C"]
