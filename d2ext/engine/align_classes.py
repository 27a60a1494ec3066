"""Alignment of classes: one list for all data sets of a run, matched by name."""

from collections.abc import Sequence

from d2ext.checkpoint import check_classes
from d2ext.data.formats.semantic_pixels import class_index
from d2ext.data.statistics import DatasetStats, dataset_stats
from d2ext.errors import DataError
from d2ext.text import join_sorted
from detectron2.config import CfgNode


def align_classes(
    cfg: CfgNode, eval_only: bool, given: Sequence[str] | None = None
) -> tuple[list[str], list[str]]:
    """Choose DATASETS.CLASSES if the data sets of DATASETS.REGISTER have different classes.

    The classes are those of the training set that has all of them; a set may lack some, or list
    some of which it has no object.

    Args:
        cfg: its data sets are registered; not changed.
        eval_only: the training data don't count.
        given: the classes of the weights that are evaluated, if they are known.
    Returns:
        The value of DATASETS.CLASSES, [] if all data sets have the same, and lines for the log.
    Raises:
        DataError: a set has objects of a class that the others don't have (with the difference).
        WeightsError: the same of data and weights.
    """
    train = () if eval_only else cfg.DATASETS.TRAIN
    names = (*train, *cfg.DATASETS.TEST, *cfg.DATASETS.FINAL)
    if cfg.DATASETS.CLASSES or not names:
        return cfg.DATASETS.CLASSES, []
    stats = {name: dataset_stats([name]) for name in names}
    classes = tuple(given) if given is not None else _common(train, stats)
    _check_panoptic(names, stats)
    others = [name for name in names if stats[name].class_names != classes]
    ours = {entry["name"] for entry in cfg.DATASETS.REGISTER}
    for name in others:
        extra = _with_objects(stats[name], classes) - set(classes)
        if extra or name not in ours:
            check_classes(given, stats[name].class_names)
            raise DataError(_difference(name, stats[name].class_names, classes))
    if not others:
        return [], []
    return list(classes), [f"{', '.join(others)}: classes matched by name to {', '.join(classes)}"]


def _check_panoptic(names: Sequence[str], stats: dict[str, DatasetStats]) -> None:
    """Check that panoptic data sets have one list of classes: their segments are not renumbered.

    Raises:
        DataError: a list has other names or another order.
    """
    panoptic = [name for name in names if "panoptic masks" in stats[name].annotated]
    for name in panoptic[1:]:
        if stats[name].stuff_names != stats[panoptic[0]].stuff_names:
            raise DataError(
                _difference(name, stats[name].stuff_names, stats[panoptic[0]].stuff_names)
            )


def _common(train: Sequence[str], stats: dict[str, DatasetStats]) -> tuple[str, ...]:
    """Return the longest class list of the training data, or of all data without a training."""
    lists = [stats[name].class_names for name in train] or [f.class_names for f in stats.values()]
    return max(lists, key=len)


def _with_objects(stats: DatasetStats, classes: Sequence[str]) -> set[str]:
    """Return the classes with an object; of semantic masks, whose pixels are not counted, all.

    Names of background and foreground that stand for others among `classes` are left out.
    """
    if not stats.num_objects:
        known = {name for name in stats.class_names if class_index(name, classes) is not None}
        return set(stats.class_names) - known
    return {
        name for name, n in zip(stats.class_names, stats.class_counts.tolist(), strict=True) if n
    }


def _difference(name: str, names: Sequence[str], classes: Sequence[str]) -> str:
    extra, missing = set(names) - set(classes), set(classes) - set(names)
    order = "" if extra or missing else " The names are the same, their order differs."
    return (
        f"{name} and the training data have other classes. Only in {name}: {join_sorted(extra)}; "
        f"only in the training data: {join_sorted(missing)}.{order} Give all the same classes, or "
        f'name the ones to use, DATASETS.CLASSES "{list(classes)}": objects of others are left out.'
    )
