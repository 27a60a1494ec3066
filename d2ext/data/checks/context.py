"""`CheckContext`: what a check works on: a split as arrays, and the issues found so far."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np

from d2ext.data.box_validity import Floats, Mask, enclosing_boxes, invalid_boxes
from d2ext.data.checks.input_size import InputSize
from d2ext.data.checks.pairs import Integers
from d2ext.data.formats import DatasetSplit, Item
from d2ext.data.image_info import ImageInfo
from d2ext.data.issues import Issue


@dataclass
class CheckContext:
    """A split, its objects as arrays over all N objects, and the issues found so far.

    Args:
        name: of the split, such as "train".
        split: as it was read; never changed.
        image_info: of every image that the split lists, by file name.
        files_with_issues: those that any of the splits could not read or place.
        model: what the model makes of the sizes of objects, if that is to be checked.
        progress: show progress bars on stderr.
    """

    name: str
    split: DatasetSplit
    image_info: Mapping[str, ImageInfo] = field(default_factory=dict)
    files_with_issues: Collection[str] = ()
    model: InputSize | None = None
    progress: bool = False
    issues: list[Issue] = field(default_factory=list)

    @property
    def images(self) -> list[Item]:
        """Detectron2's dicts of the split."""
        return self.split.images

    @property
    def rotated(self) -> bool:
        """Boxes have an angle."""
        return self.split.task == "rotated"

    @cached_property
    def objects(self) -> list[Item]:
        """The N annotations of all images."""
        return [item for image in self.images for item in image.get("annotations", ())]

    @cached_property
    def owners(self) -> Integers:
        """(N,) position of each object's image."""
        counts = [len(image.get("annotations", ())) for image in self.images]
        return np.repeat(np.arange(len(counts)), counts)

    @cached_property
    def labels(self) -> Integers:
        """(N,) class index of each object."""
        return np.array([item["category_id"] for item in self.objects], dtype=np.int64)

    @cached_property
    def crowd(self) -> Mask:
        """(N,) mask of crowd regions."""
        return np.array([bool(item.get("iscrowd")) for item in self.objects], dtype=bool)

    @cached_property
    def boxed(self) -> Mask:
        """(N,) mask of the objects that have a box in the image; data of other kinds have none."""
        return np.array([bool(item.get("bbox")) for item in self.objects], dtype=bool)

    @cached_property
    def raw_boxes(self) -> Floats:
        """(N, 4) XYWH or (N, 5) XYWHA boxes in pixels and degrees as annotated; NaN for none."""
        numbers = 5 if self.rotated else 4
        # Comparisons with NaN are false, so that checks pass over objects without a box.
        boxes = np.full((len(self.objects), numbers), np.nan)
        given = [item["bbox"] for item in self.objects if item.get("bbox")]
        values = np.fromiter(chain.from_iterable(given), np.float64, len(given) * numbers)
        boxes[self.boxed] = values.reshape(-1, numbers)
        return boxes

    @cached_property
    def boxes(self) -> Floats:
        """(N, 4) upright XYXY boxes in pixels; unclipped, may contain non-finite values."""
        with np.errstate(invalid="ignore"):
            return enclosing_boxes(self.raw_boxes)

    @cached_property
    def image_sizes(self) -> Floats:
        """(M, 2) width and height of the images as annotated, in pixels."""
        sides = [image[key] for image in self.images for key in ("width", "height")]
        return np.array(sides, dtype=np.float64).reshape(-1, 2)

    @cached_property
    def frames(self) -> Floats:
        """(N, 2) width and height of each object's image, in pixels."""
        return self.image_sizes[self.owners]

    @cached_property
    def invalid(self) -> dict[str, Mask]:
        """Code -> (N,) mask of the boxes that cannot be learned from."""
        found = invalid_boxes(self.raw_boxes, self.frames)
        return {code: mask & self.boxed for code, mask in found.items()}

    @cached_property
    def usable(self) -> Mask:
        """(N,) mask of the objects with a box that is finite, not empty and in the image."""
        return self.boxed & ~np.logical_or.reduce(list(self.invalid.values()))

    @cached_property
    def class_counts(self) -> Integers:
        """(classes,) number of objects per class without crowd regions."""
        labels = self.labels[~self.crowd]
        return np.bincount(labels, minlength=len(self.split.classes))

    def add(self, code: str, where: str, detail: str, image: str = "") -> None:
        """Add an issue of a file, a class or the whole split."""
        path = Path(image) if image else None
        self.issues.append(Issue(code, where, detail, self.name, path))

    def add_image(self, code: str, image: int, detail: str) -> None:
        """Add an issue of the image at that position."""
        path = Path(self.images[image]["file_name"])
        self.issues.append(Issue(code, str(path), detail, self.name, path, image_index=image))

    def add_object(self, code: str, number: int, detail: str) -> None:
        """Add an issue of the object at that position; its class and image precede the detail."""
        number, owner = int(number), int(self.owners[number])
        path = Path(self.images[owner]["file_name"])
        class_name = self.split.classes[self.labels[number]]
        self.issues.append(
            Issue(
                code,
                self.place(number),
                f"{class_name} in {path.name}: {detail}",
                self.name,
                path,
                box=tuple(self.boxes[number].tolist()) if self.boxed[number] else None,
                image_index=owner,
                object_index=number,
                record=self.objects[number]["record"],
            )
        )

    def add_objects(self, code: str, mask: Mask) -> None:
        """Add an issue for each object in the (N,) mask, with its box as the detail."""
        for number in np.flatnonzero(mask).tolist():
            self.add_object(code, number, self.box_text(number))

    def place(self, number: int) -> str:
        """Return file and line, or file and record, of the object at that position."""
        file = self.images[self.owners[number]]["annotated_in"]
        record = self.objects[number]["record"]
        # In these formats a record is an id or a count, in text files a line.
        counted = file.lower().endswith((".json", ".xml")) and isinstance(record, int)
        return f"{file}, annotation {record}" if counted else f"{file}:{record}"

    def box_text(self, number: int) -> str:
        """Return the annotated numbers of a box as text."""
        values = ", ".join(f"{value:.6g}" for value in self.raw_boxes[number])
        return f"[{values}]"
