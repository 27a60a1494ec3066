"""What a data set of any format is in memory, and one place that says what is certain of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Item = dict[str, Any]
Task = Literal["boxes", "masks", "keypoints", "rotated", "semantic", "panoptic"]


@dataclass(frozen=True)
class Fault:
    """Something in a data set's files that could not become part of `DatasetSplit.images`.

    Args:
        kind: a few words, the same for all faults of one sort.
        where: file, and line or record in it: "labels/a.txt:3".
        image: the image's file name, or "" where there is none.
        detail: what exactly stands there.
    """

    kind: str
    where: str
    image: str = ""
    detail: str = ""


@dataclass
class DatasetSplit:
    """One split of a data set, as its files say: read, but neither checked nor repaired.

    Each of `images` is one of Detectron2's standard dicts. Certain are:

    - "file_name" (str; the file itself need not exist or be readable), "image_id" (int or str, its
      own in COCO's files, else counted from 1 in the order of `images`), "height" and "width"
      (pixels of the upright image, as the annotations say, or read from the image where they say
      nothing; positive whole numbers), "annotated_in" (str: the file with its annotations, or "");
    - for the tasks boxes, masks, keypoints and rotated: "annotations", a list, maybe empty. Each
      has "bbox" (list of floats: 4 in `BoxMode.XYWH_ABS`, or 5 in `BoxMode.XYWHA_ABS` for the task
      rotated; may be non-finite, empty or outside), "bbox_mode", "category_id" (an index into
      `classes`), "iscrowd" (0 or 1) and "record" (what `origin` names it by). There may be
      "segmentation" (polygons of at least three points in pixels, or a compressed RLE as
      pycocotools makes it), "keypoints" (x, y, visibility of each), "difficult" (0 or 1);
    - for semantic: "sem_seg_file_name", an image with the class index of each pixel;
    - for panoptic: "pan_seg_file_name" and "segments_info" with "id", "category_id" (an index into
      `classes`), "iscrowd", "isthing", as Detectron2 has it.

    Pixels are continuous coordinates: the left edge of the left column is 0, as in COCO.

    Args:
        format: as people call it: "COCO", "Pascal VOC", "YOLO", ...
        path: what was named, a file or folder.
        split: "train", "val", "test", or "" where the data set has none.
        task: what the annotations are good for; boxes come with all of the first four.
        classes: names by index.
        images: in the order of the file, or sorted by name where a folder is the list.
        faults: what was left out while reading, and why.
        notes: decisions made while reading that a user may want to know, one line each.
        ignore_label: of semantic masks, the value of pixels without a class.
        metadata: "categories" of COCO's files, as they stand there; "isthing", one bool a class,
            of panoptic; "keypoint_names" and "keypoint_flip_map" of keypoints.
    """

    format: str
    path: Path
    split: str
    task: Task
    classes: tuple[str, ...]
    images: list[Item]
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ignore_label: int = 255
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def num_annotations(self) -> int:
        return sum(len(image.get("annotations", ())) for image in self.images)

    def describe(self) -> str:
        """One line: what was recognised and how much is in it."""
        of = f" ({self.split})" if self.split else ""
        kind = _KINDS[self.task]
        count = f", {self.num_annotations} {kind}" if self.task not in _PIXELS else f", {kind}"
        return (
            f"{self.path}{of}: {self.format}, {len(self.images)} images{count}, "
            f"{len(self.classes)} classes: {', '.join(self.classes)}"
        )


def origin(image: Item, annotation: Item | None = None) -> str:
    """Where an image's annotations, or one of them, stand: "labels/a.txt:3"."""
    file = image["annotated_in"]
    return f"{file}:{annotation['record']}" if annotation is not None else file


def number_classes(images: Sequence[Item]) -> tuple[str, ...]:
    """Sorted names of the annotations' "category", which their "category_id" replaces."""
    items = [item for image in images for item in image["annotations"]]
    classes = tuple(sorted({item["category"] for item in items}))
    numbers = {name: number for number, name in enumerate(classes)}
    for item in items:
        item["category_id"] = numbers[item.pop("category")]
    return classes


def with_classes(dataset: DatasetSplit, classes: Sequence[str]) -> DatasetSplit:
    """`dataset` with the class indices of `classes`; objects of others are left out.

    Its annotations are changed in place. Semantic masks keep the indices that they hold.
    """
    if tuple(classes) == dataset.classes or dataset.task == "semantic":
        return dataset
    index = {name: number for number, name in enumerate(classes)}
    before = dataset.num_annotations
    for image in dataset.images:
        for key in ("annotations", "segments_info"):
            if key in image:
                image[key] = _renumbered(image[key], dataset.classes, index)
    dataset.classes = tuple(classes)
    if left_out := before - dataset.num_annotations:
        dataset.notes.append(f"left out {left_out} objects of classes that are not asked for")
    return dataset


def _renumbered(items: list[Item], names: Sequence[str], index: dict[str, int]) -> list[Item]:
    kept = [item for item in items if names[item["category_id"]] in index]
    for item in kept:
        item["category_id"] = index[names[item["category_id"]]]
    return kept


_PIXELS = ("semantic", "panoptic")
_KINDS = {
    "boxes": "boxes",
    "masks": "boxes with masks",
    "keypoints": "boxes with keypoints",
    "rotated": "rotated boxes",
    "semantic": "semantic masks",
    "panoptic": "panoptic masks",
}
