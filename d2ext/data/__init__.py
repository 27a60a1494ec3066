"""Data sets, their checks and loaders. Importing it registers "shapes_train" and "shapes_val"."""

from d2ext.data.coco import register_coco
from d2ext.data.flags import parse_dataset_flag, register_datasets
from d2ext.data.loader import build_test_loader, build_train_loader, iterations_per_epoch
from d2ext.data.repair import write_faults
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
    "write_faults",
]

register_shapes()
