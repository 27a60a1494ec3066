"""Data sets, their checks and loaders. Importing it registers "shapes_train" and "shapes_val"."""

from d2ext.data.catalog import register_coco
from d2ext.data.cleaning import write_dropped
from d2ext.data.dataset_paths import parse_dataset_flag, register_datasets
from d2ext.data.loader import build_test_loader, build_train_loader, iterations_per_epoch
from d2ext.data.shapes import register_shapes
from d2ext.data.statistics import DatasetStats, dataset_stats

__all__ = [
    "DatasetStats",
    "build_test_loader",
    "build_train_loader",
    "dataset_stats",
    "iterations_per_epoch",
    "parse_dataset_flag",
    "register_coco",
    "register_datasets",
    "write_dropped",
]

register_shapes()
