"""Data sets of any common format, read into one form: `DatasetSplit`."""

from d2ext.data.formats.dataset_split import DatasetSplit, Fault, Item, origin, with_classes
from d2ext.data.formats.detect import DetectedFormat, detect_format, load_split, load_splits

__all__ = [
    "DatasetSplit",
    "DetectedFormat",
    "Fault",
    "Item",
    "detect_format",
    "load_split",
    "load_splits",
    "origin",
    "with_classes",
]
