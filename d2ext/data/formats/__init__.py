"""Formats of data sets, each read into one form: `DatasetSplit`."""

from d2ext.data.formats.dataset_split import DatasetSplit, Item, origin, with_classes
from d2ext.data.formats.detect import (
    DetectedFormat,
    detect_format,
    load_split,
    load_splits,
    register_format,
)

__all__ = [
    "DatasetSplit",
    "DetectedFormat",
    "Item",
    "detect_format",
    "load_split",
    "load_splits",
    "origin",
    "register_format",
    "with_classes",
]
