"""`DatasetSplit`: one split of a data set of any format in memory, as Detectron2's dicts."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from d2ext.data.issues import Issue

Item = dict[str, Any]
Task = Literal["boxes", "masks", "keypoints", "rotated", "semantic", "panoptic"]

PIXEL_TASKS = ("semantic", "panoptic")  # label pixels, not objects with boxes


@dataclass
class DatasetSplit:
    """One split of a data set, as its files say: read, but neither checked nor cleaned.

    Each of `images` is one of Detectron2's standard dicts. Certain are:

    - "file_name" (str; the file itself need not exist or be readable), "image_id" (int or str, its
      own in COCO's files, else counted from 1 in the order of `images`), "height" and "width"
      (pixels of the upright image, as the annotations say, or read from the image where they say
      nothing; positive whole numbers), "annotated_in" (str: the file with its annotations, or "");
    - for the tasks boxes, masks, keypoints and rotated: "annotations", a list, maybe empty. Each
      has "bbox" (list of numbers: 4 in `BoxMode.XYWH_ABS`, or 5 in `BoxMode.XYWHA_ABS` for the task
      rotated; may be non-finite, empty or outside), "bbox_mode", "category_id" (an index into
      `classes`), "iscrowd" (0 or 1) and "record" (its line or id, which `origin` names it by).
      There may be "segmentation" (polygons of at least three points in pixels, or a compressed RLE
      as pycocotools makes it; empty where the file has a mask that cannot be read), "keypoints"
      (x, y, visibility of each), "area" (pixels) and "difficult" (0 or 1);
    - for semantic: "sem_seg_file_name", an image with the class index of each pixel;
    - for panoptic: "pan_seg_file_name", a segment map (see `d2ext.data.segment_maps`), and
      "segments_info" with "id", "category_id" (an index into `classes`), "iscrowd", "isthing", as
      Detectron2 has it. There may be "area" (pixels) and "bbox" (XYWH in pixels) as annotated.

    Pixels are continuous coordinates: the left edge of the left column is 0, as in COCO.

    Args:
        format: its common name: "COCO", "Pascal VOC", "YOLO", ...
        path: the file or folder that was named.
        split: "train", "val", "test", or "" where the data set has none.
        task: what the annotations are good for; boxes come with all of the first four.
        classes: names by index.
        images: in the order of their ids, or sorted by name where a folder is the list.
        issues: what was left out while reading, and why.
        id_issues: issues of ids, which leave nothing out.
        notes: decisions made while reading that a user may want to know, one line each.
        ignore_label: of semantic masks, the value of pixels without a class.
        metadata: "categories" of COCO's files, unchanged; "isthing", one bool per class,
            and perhaps "void_ids", ids of pixels that belong to no segment, of panoptic;
            "keypoint_names" and "keypoint_flip_map" of keypoints; "evaluator_type", an evaluator's
            registered name, where it is not the one of `task`.
        category_ids: ids of `classes` in a COCO file, ascending; () where they count from 1.
        refusal: why no training can start from these files, "" if one can.
        coco_file: a COCO file with exactly these objects, None where there is no such file.
        digest: hash of the file with the annotations; "" where they are in several files.
        encodings: number of annotation files by their encoding, those in UTF-8 aside.
        polygons_near: true if the reader left out all polygons that
            `d2ext.data.mask_validity.invalid_mask` would find far outside their image.
    """

    format: str
    path: Path
    split: str
    task: Task
    classes: tuple[str, ...]
    images: list[Item]
    issues: list[Issue] = field(default_factory=list)
    id_issues: list[Issue] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ignore_label: int = 255
    metadata: dict[str, Any] = field(default_factory=dict)
    category_ids: tuple[int, ...] = ()
    refusal: str = ""
    coco_file: Path | None = None
    digest: str = ""
    encodings: Counter[str] = field(default_factory=Counter)
    polygons_near: bool = False

    @property
    def num_annotations(self) -> int:
        """Number of objects on all images, crowd regions included."""
        return sum(len(image.get("annotations", ())) for image in self.images)

    @property
    def annotates_pixels(self) -> bool:
        """True for semantic and panoptic masks."""
        return self.task in PIXEL_TASKS

    @property
    def lacks_boxes(self) -> bool:
        """True where objects have no box in the image, as those of nuScenes in space."""
        objects = (item for image in self.images for item in image.get("annotations", ()))
        return any("bbox" not in item for item in objects)

    def add_image(
        self, file: str | Path, size: tuple[int, int], annotated_in: str | Path = ""
    ) -> Item:
        """Append an image without objects, with the next id.

        Args:
            file: the image's path.
            size: width and height in pixels.
            annotated_in: the file with its annotations; "" for `path`.
        Returns:
            The new dict.
        """
        image: Item = {
            "file_name": str(file),
            "image_id": len(self.images) + 1,
            "width": size[0],
            "height": size[1],
            "annotated_in": str(annotated_in or self.path),
            "annotations": [],
        }
        self.images.append(image)
        return image

    def describe(self) -> str:
        """Return one line: the format and how much is in it."""
        of = f" ({self.split})" if self.split else ""
        kind = _ANNOTATED[self.task]
        count = f", {kind}" if self.annotates_pixels else f", {self.num_annotations} {kind}"
        return (
            f"{self.path}{of}: {self.format}, {len(self.images)} images{count}, "
            f"{len(self.classes)} classes: {', '.join(self.classes)}"
        )


def origin(image: Item, annotation: Item | None = None) -> str:
    """Return the file of an image's annotations, with the line or record of one: "a.txt:3"."""
    file = image["annotated_in"]
    return f"{file}:{annotation['record']}" if annotation is not None else file


def number_classes(images: Sequence[Item]) -> tuple[str, ...]:
    """Return the sorted names of the annotations' "category"; "category_id" replaces the names."""
    items = [item for image in images for item in image["annotations"]]
    classes = tuple(sorted({item["category"] for item in items}))
    numbers = {name: number for number, name in enumerate(classes)}
    for item in items:
        item["category_id"] = numbers[item.pop("category")]
    return classes


def with_classes(dataset: DatasetSplit, classes: Sequence[str]) -> DatasetSplit:
    """Return a copy with the class indices of `classes`; objects of other classes are left out.

    Panoptic masks keep the indices that they have; for semantic ones see
    `d2ext.data.formats.semantic_pixels.with_mask_classes`.
    """
    if tuple(classes) == dataset.classes or dataset.annotates_pixels:
        return dataset
    index = {name: number for number, name in enumerate(classes)}
    images = [_renumbered(image, dataset.classes, index) for image in dataset.images]
    found = replace(
        dataset,
        classes=tuple(classes),
        images=images,
        notes=list(dataset.notes),
        category_ids=_ids_of(classes, dataset),
        coco_file=None,
    )
    if left_out := dataset.num_annotations - found.num_annotations:
        found.notes.append(f"left out {left_out} objects of classes that are not asked for")
    return found


def _renumbered(image: Item, names: Sequence[str], index: dict[str, int]) -> Item:
    image = dict(image)
    image["annotations"] = [
        {**item, "category_id": index[names[item["category_id"]]]}
        for item in image["annotations"]
        if names[item["category_id"]] in index
    ]
    return image


def _ids_of(classes: Sequence[str], dataset: DatasetSplit) -> tuple[int, ...]:
    """Return the ids of classes, if they have the order of `classes`; else ()."""
    known = dict(zip(dataset.classes, dataset.category_ids, strict=False))
    ids = tuple(known[name] for name in classes if name in known)
    return ids if len(ids) == len(classes) and list(ids) == sorted(set(ids)) else ()


_ANNOTATED = {
    "boxes": "boxes",
    "masks": "boxes with masks",
    "keypoints": "boxes with keypoints",
    "rotated": "rotated boxes",
    "semantic": "semantic masks",
    "panoptic": "panoptic masks",
}


def image_root(images: Sequence[Item]) -> str:
    """Return the innermost folder that all images are in or below."""
    return os.path.commonpath({os.path.dirname(image["file_name"]) for image in images})
