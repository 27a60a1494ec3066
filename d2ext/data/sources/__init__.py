"""Data sets of any common format, read into one form: `Source`."""

from d2ext.data.sources.recognition import Recognised, load_source, load_splits, recognise
from d2ext.data.sources.source import Fault, Item, Source, origin, with_classes

__all__ = [
    "Fault",
    "Item",
    "Recognised",
    "Source",
    "load_source",
    "load_splits",
    "origin",
    "recognise",
    "with_classes",
]
