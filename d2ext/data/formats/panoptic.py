"""COCO's panoptic JSON: a PNG of segment ids for each image, and what each segment is."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from d2ext.data.formats.coco_document import with_coco_keys
from d2ext.data.formats.coco_ids import id_issues
from d2ext.data.formats.coco_images import categories, image_items
from d2ext.data.formats.coco_layout import CocoSplit
from d2ext.data.formats.dataset_split import DatasetSplit, Item
from d2ext.data.formats.image_files import child, folders_in, split_of
from d2ext.data.issues import Issue, reading_issue
from d2ext.errors import DataError
from d2ext.text import first_few


def read_panoptic(part: CocoSplit, document: Item) -> DatasetSplit:
    """Read a panoptic document.

    Raises:
        DataError: it lacks COCO's keys; images or segment maps are not found.
    """
    document = with_coco_keys(part.path, document)
    classes, indices = categories(part.path, document["categories"])
    issues: list[Issue] = []
    images = image_items(part, document["images"], issues)
    maps = _map_folder(part, [str(item.get("file_name")) for item in document["annotations"]])
    by_id = {image["image_id"]: image for image in images}
    isthing = {item["id"]: bool(item.get("isthing", 1)) for item in document["categories"]}
    for number, item in enumerate(document["annotations"], start=1):
        image = by_id.get(item.get("image_id"))
        if image is None:
            where = f"{part.path}:annotation {number}"
            issues.append(reading_issue("object-orphan", "annotation of an unknown image", where))
            continue
        image["pan_seg_file_name"] = str(maps / str(item["file_name"]))
        image["segments_info"] = _segments(part, item, image, indices, isthing, issues)
    missing = [image for image in images if "pan_seg_file_name" not in image]
    issues += [
        reading_issue("labels-missing", "image without segments", str(part.path), i["file_name"])
        for i in missing
    ]
    for image in images:
        del image["annotations"]
    return DatasetSplit(
        format="COCO panoptic",
        path=part.path,
        split=part.split,
        task="panoptic",
        classes=classes,
        images=[image for image in images if "pan_seg_file_name" in image],
        issues=issues,
        id_issues=id_issues(str(part.path), document, objects=False),
        metadata={
            "categories": document["categories"],
            "isthing": [isthing[i] for i in sorted(indices, key=indices.__getitem__)],
            "panoptic_root": str(maps),
        },
    )


def _segments(
    part: CocoSplit,
    item: Item,
    image: Item,
    indices: dict[Any, int],
    isthing: dict[Any, bool],
    issues: list[Issue],
) -> list[Item]:
    found = []
    for segment in item["segments_info"]:
        category = segment.get("category_id")
        if category in indices and isinstance(segment.get("id"), int):
            more = {"category_id": indices[category], "isthing": isthing[category]}
            found.append({**segment, "iscrowd": int(bool(segment.get("iscrowd"))), **more})
        else:
            where = f"{part.path}:segment {segment.get('id')}"
            issues.append(
                reading_issue(
                    "class-unknown", "unknown category", where, image["file_name"], str(category)
                )
            )
    return found


def _map_folder(part: CocoSplit, names: list[str]) -> Path:
    tried = list(dict.fromkeys(_candidates(part)))
    for folder in tried:
        if any((folder / name).is_file() for name in (names[0], names[-1])):
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
