"""Alignment of tasks: all data sets of a run annotate boxes, rotated boxes or masks alike."""

from typing import Any

from d2ext.config import learns_rotated_boxes
from d2ext.data.catalog import read_dataset
from d2ext.data.dataset_paths import named_spec
from d2ext.data.formats.common_task import common_task, needs_task
from d2ext.data.formats.dataset_split import Task
from d2ext.modeling.required_annotations import required_annotations
from detectron2.config import CfgNode


def align_tasks(cfg: CfgNode, eval_only: bool) -> list[dict[str, Any]]:
    """Choose the task of the data sets in DATASETS.REGISTER that annotate another kind of boxes.

    What the model learns counts first: polygons become rotated boxes for a model of these.

    Args:
        cfg: not changed.
        eval_only: the training data don't count.
    Returns:
        The value of DATASETS.REGISTER, with "task" where a data set has another.
    Raises:
        DataError: a data set cannot be read.
    """
    used = {*(() if eval_only else cfg.DATASETS.TRAIN), *cfg.DATASETS.TEST, *cfg.DATASETS.FINAL}
    specs = dict(named_spec(entry) for entry in cfg.DATASETS.REGISTER)
    datasets = {name: read_dataset(specs[name]) for name in specs if name in used}
    task = _common(cfg, {dataset.task for dataset in datasets.values()}, eval_only)
    other = {name for name, dataset in datasets.items() if needs_task(dataset, task)}
    return [
        {**entry, "task": task} if entry["name"] in other else dict(entry)
        for entry in cfg.DATASETS.REGISTER
    ]


def _common(cfg: CfgNode, tasks: set[Task], eval_only: bool) -> Task | None:
    """Return the task of data sets of these tasks; None where each keeps its own."""
    learns_masks = "masks" in required_annotations(cfg)
    if learns_rotated_boxes(cfg) and not learns_masks and tasks & {"masks", "rotated"}:
        return "rotated"
    return common_task([*tasks, *(["masks"] if eval_only and learns_masks else [])])
