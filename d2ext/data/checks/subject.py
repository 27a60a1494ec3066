"""A split as arrays, and the list that its faults go into."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from d2ext.data.checks.report import Fault
from d2ext.data.formats import DatasetSplit, Item
from detectron2.structures import BoxMode

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]


def every(mask: Mask) -> Mask:
    """(N, K) -> (N,): whether all of a row are true."""
    return np.logical_and.reduce(mask, axis=1)


def some(mask: Mask) -> Mask:
    """(N, K) -> (N,): whether any of a row is true."""
    return np.logical_or.reduce(mask, axis=1)


def positions(mask: Mask) -> list[int]:
    """Where (N,) is true."""
    return np.flatnonzero(mask).tolist()


@dataclass
class Subject:
    """What is checked: a source, its objects as arrays, and the faults found so far.

    Args:
        name: of the split, as in "train".
        source: as it was read; never changed.
    """

    name: str
    source: DatasetSplit
    faults: list[Fault] = field(default_factory=list)

    @property
    def images(self) -> list[Item]:
        return self.source.images

    @property
    def rotated(self) -> bool:
        return self.source.task == "rotated"

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
        """(N,) whether each object is a crowd region."""
        return np.array([bool(item.get("iscrowd")) for item in self.objects], dtype=bool)

    @cached_property
    def raw_boxes(self) -> Floats:
        """(N, 4) XYWH or, of rotated boxes, (N, 5) XYWHA in pixels and degrees, as annotated."""
        boxes = [item["bbox"] for item in self.objects]
        return np.array(boxes, dtype=np.float64).reshape(-1, 5 if self.rotated else 4)

    @cached_property
    def boxes(self) -> Floats:
        """(N, 4) XYXY pixels; around the rotated ones. Not clipped, not finite perhaps."""
        mode = BoxMode.XYWHA_ABS if self.rotated else BoxMode.XYWH_ABS
        return np.asarray(BoxMode.convert(self.raw_boxes, mode, BoxMode.XYXY_ABS))

    @cached_property
    def image_sizes(self) -> Floats:
        """(M, 2) width and height of the images as annotated, pixels."""
        sizes = [(image["width"], image["height"]) for image in self.images]
        return np.array(sizes, dtype=np.float64).reshape(-1, 2)

    @cached_property
    def frames(self) -> Floats:
        """(N, 2) width and height of each object's image, pixels."""
        return self.image_sizes[self.owners]

    @cached_property
    def usable(self) -> Mask:
        """(N,) finite boxes with an area, inside the image at least partly."""
        finite = every(np.isfinite(self.raw_boxes))
        inside = (self.boxes[:, :2] < self.frames) & (self.boxes[:, 2:] > 0)
        return finite & every(self.raw_boxes[:, 2:4] > 0) & every(inside)

    def objects_of(self, image: int) -> Integers:
        """Positions of the objects of an image."""
        first, last = np.searchsorted(self.owners, (image, image + 1))
        return np.arange(first, last)

    def add(self, code: str, where: str, detail: str, image: str = "") -> None:
        """A fault of a file, a class or the whole split."""
        self.faults.append(Fault(code, self.name, where, detail, Path(image) if image else None))

    def add_image(self, code: str, image: int, detail: str) -> None:
        """A fault of the image at that position."""
        path = Path(self.images[image]["file_name"])
        self.faults.append(Fault(code, self.name, str(path), detail, path, image_index=image))

    def add_object(self, code: str, number: int, detail: str) -> None:
        """A fault of the object at that position; its class and image stand in the detail."""
        owner = int(self.owners[number])
        path = Path(self.images[owner]["file_name"])
        class_name = self.source.classes[self.labels[number]]
        self.faults.append(
            Fault(
                code,
                self.name,
                self.place(number),
                f"{class_name} in {path.name}: {detail}",
                path,
                box=tuple(self.boxes[number].tolist()),
                image_index=owner,
                object_index=number,
                record=self.objects[number]["record"],
            )
        )

    def place(self, number: int) -> str:
        """File and line, or file and record, of the object at that position."""
        file = self.images[self.owners[number]]["annotated_in"]
        record = self.objects[number]["record"]
        counted = file.lower().endswith((".json", ".xml")) and isinstance(record, int)
        return f"{file}, annotation {record}" if counted else f"{file}:{record}"

    def shown_box(self, number: int) -> str:
        """A box in a few words."""
        values = ", ".join(f"{value:.6g}" for value in self.raw_boxes[number])
        return f"[{values}]"
