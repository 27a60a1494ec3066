"""Alignment of tasks: all data sets of a run annotate boxes, rotated boxes or masks alike."""

from typing import Any

from d2ext.data.catalog import read_dataset
from d2ext.data.dataset_paths import named_spec
from d2ext.data.formats.common_task import common_task, needs_task
from d2ext.modeling.required_annotations import required_annotations
from detectron2.config import CfgNode


def align_tasks(cfg: CfgNode, eval_only: bool) -> list[dict[str, Any]]:
    """Choose the task of the data sets in DATASETS.REGISTER that annotate another kind of boxes.

    Args:
        cfg: not changed.
        eval_only: the training data don't count; what the model learns does.
    Returns:
        The value of DATASETS.REGISTER, with "task" where a data set has another.
    Raises:
        DataError: a data set cannot be read.
    """
    used = {*(() if eval_only else cfg.DATASETS.TRAIN), *cfg.DATASETS.TEST, *cfg.DATASETS.FINAL}
    specs = dict(named_spec(entry) for entry in cfg.DATASETS.REGISTER)
    datasets = {name: read_dataset(specs[name]) for name in specs if name in used}
    learned = ["masks"] if eval_only and "masks" in required_annotations(cfg) else []
    task = common_task([*learned, *(dataset.task for dataset in datasets.values())])
    other = {name for name, dataset in datasets.items() if needs_task(dataset, task)}
    return [
        {**entry, "task": task} if entry["name"] in other else dict(entry)
        for entry in cfg.DATASETS.REGISTER
    ]
