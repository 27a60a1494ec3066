"""One task for all splits of a data set, where some annotate boxes, others angles or masks."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from d2ext.data.formats.dataset_split import DatasetSplit, Task
from d2ext.data.formats.outlines import give_angles, turn_into_polygons

_NOTES = {
    ("rotated", "masks"): "boxes with an angle are read as masks, the kind of the other splits",
    ("boxes", "rotated"): "boxes are read as boxes with an angle, the kind of the other splits",
    ("masks", "rotated"): "polygons are read as boxes with an angle, which the model learns",
}
_CHANGES = {"masks": turn_into_polygons, "rotated": give_angles}


def common_task(tasks: Iterable[str]) -> Task | None:
    """Return the task that splits of these tasks share; None where each keeps its own.

    Rotated boxes become masks beside masks: four-point polygons may be all that a small split has.
    Boxes become rotated ones beside these.
    """
    found = set(tasks)
    if {"masks", "rotated"} <= found:
        return "masks"
    return "rotated" if {"boxes", "rotated"} <= found else None


def needs_task(dataset: DatasetSplit, task: str | None) -> bool:
    """Return true if `with_task` would change the data set."""
    return (dataset.task, task) in _NOTES


def with_task(dataset: DatasetSplit, task: str | None) -> DatasetSplit:
    """Return a copy whose boxes have the form of `task`, "masks" or "rotated", and a note."""
    if not needs_task(dataset, task):
        return dataset
    images = [
        {**image, "annotations": [dict(item) for item in image["annotations"]]}
        for image in dataset.images
    ]
    for image in images:
        _CHANGES[str(task)](image["annotations"])
    return replace(
        dataset,
        task=task,  # type: ignore[arg-type] # one of two, as just checked
        images=images,
        notes=[*dataset.notes, _NOTES[dataset.task, str(task)]],
        coco_file=None,
        polygons_near=False,
    )


def agree_on_task(datasets: Sequence[DatasetSplit]) -> list[DatasetSplit]:
    """Return the data sets with the task that they share."""
    task = common_task(dataset.task for dataset in datasets)
    return [with_task(dataset, task) for dataset in datasets]
