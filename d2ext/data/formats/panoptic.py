"""COCO's panoptic JSON: a PNG of segment ids for each image, and what each segment is."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from d2ext.data.formats.coco_document import with_coco_keys
from d2ext.data.formats.coco_ids import id_issues
from d2ext.data.formats.coco_images import categories, image_items
from d2ext.data.formats.coco_layout import CocoSplit
from d2ext.data.formats.dataset_split import DatasetSplit, Item
from d2ext.data.formats.image_files import child, folders_in, split_of
from d2ext.data.formats.values import as_numbers, is_true
from d2ext.data.issues import Issue, reading_issue
from d2ext.errors import DataError
from d2ext.text import first_few


def read_panoptic(part: CocoSplit, document: Item) -> DatasetSplit:
    """Read a panoptic document.

    Raises:
        DataError: it lacks COCO's keys; images or segment maps are not found.
    """
    document = with_coco_keys(part.path, document)
    reader = _Reader(part, document)
    images = reader.read()
    return DatasetSplit(
        format="COCO panoptic",
        path=part.path,
        split=part.split,
        task="panoptic",
        classes=reader.classes,
        images=images,
        issues=reader.issues,
        notes=reader.notes,
        id_issues=id_issues(str(part.path), document, objects=False),
        metadata={
            "categories": document["categories"],
            "isthing": [reader.isthing[i] for i in reader.indices],
        },
    )


@dataclass
class _Reader:
    """Adds segment maps and segments to the images of a document."""

    part: CocoSplit
    document: Item
    issues: list[Issue] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.classes, self.indices = categories(self.part.path, self.document["categories"])
        self.isthing = {
            item["id"]: is_true(item.get("isthing", 1)) for item in self.document["categories"]
        }

    def read(self) -> list[Item]:
        """Return Detectron2's dicts of the images that have segments."""
        images = image_items(self.part, self.document["images"], self.issues, self.notes)
        annotations = self._annotations()
        maps = _map_folder(self.part, [item["file_name"] for item in annotations])
        by_id = {image.pop("image_id"): image for image in images}
        for number, item in enumerate(annotations, start=1):
            image = by_id.get(item.get("image_id"))
            if image is None:
                self._leave_out(number, "object-orphan", "annotation of an unknown image")
                continue
            image["pan_seg_file_name"] = str(maps / item["file_name"])
            image["segments_info"] = self._segments(item, image)
        found = []
        for image_id, image in by_id.items():
            del image["annotations"]
            if "pan_seg_file_name" in image:
                found.append({**image, "image_id": image_id})
            else:
                self._add_issue("labels-missing", "image without segments", image["file_name"])
        return found

    def _annotations(self) -> list[Item]:
        """Return the annotations that name a segment map and list segments."""
        found = []
        for number, item in enumerate(self.document["annotations"], start=1):
            name, segments = item.get("file_name"), item.get("segments_info")
            if isinstance(name, str) and name and isinstance(segments, list):
                found.append(item)
            else:
                self._leave_out(number, "record-broken", "no file_name or no segments_info")
        return found

    def _segments(self, item: Item, image: Item) -> list[Item]:
        found = []
        for segment in item["segments_info"]:
            category = segment.get("category_id") if isinstance(segment, dict) else None
            if isinstance(category, (int, str)) and category in self.indices:
                number = segment.get("id")
                if isinstance(number, int):
                    found.append(self._segment(segment, category))
                    continue
                self._add_issue(
                    "record-broken", "segment without an id", image["file_name"], str(number)
                )
                continue
            self._add_issue("class-unknown", "unknown category", image["file_name"], str(category))
        return found

    def _segment(self, segment: Item, category: Any) -> Item:
        return {
            **_measures(segment),
            "id": segment["id"],
            "category_id": self.indices[category],
            "iscrowd": int(is_true(segment.get("iscrowd"))),
            "isthing": self.isthing[category],
        }

    def _leave_out(self, number: int, code: str, what: str) -> None:
        where = f"{self.part.path}:annotation {number}"
        self.issues.append(reading_issue(code, what, where))

    def _add_issue(self, code: str, what: str, image: str, found: str = "") -> None:
        self.issues.append(reading_issue(code, what, str(self.part.path), image, found))


def _measures(segment: Item) -> Item:
    """Return the annotated area and box, as far as they are numbers."""
    box, area = as_numbers(segment.get("bbox")), as_numbers([segment.get("area")])
    found: Item = {"bbox": box} if box is not None and len(box) == 4 else {}
    return found | ({"area": area[0]} if area else {})


def _map_folder(part: CocoSplit, names: list[str]) -> Path:
    tried = list(dict.fromkeys(_candidates(part)))
    for folder in tried:
        if any(os.path.isfile(folder / name) for name in (*names[:1], *names[-1:])):
            return folder
    raise DataError(
        f"{part.path}: its segment maps ({first_few(names, 2)}) are in none of "
        f"{', '.join(map(str, tried))}. Put them into a folder named as the JSON file."
    )


def _candidates(part: CocoSplit) -> Iterable[Path]:
    here = part.path.parent
    for base in (here, here.parent):
        yield base / part.path.stem  # as COCO has it
        for name in ("panoptic", "panoptic_maps", "panoptic_masks", "masks", "annotations"):
            if (folder := child(base, name)) is not None:
                yield folder
                yield from (p for p in folders_in(folder) if split_of(p.name) == part.split)
