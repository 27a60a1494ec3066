"""COCO's panoptic JSON: a PNG of segment ids for each image, and what each segment is."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from d2ext.data import checks
from d2ext.data.formats.coco_images import categories, image_items
from d2ext.data.formats.coco_layout import CocoSplit
from d2ext.data.formats.dataset_split import DatasetSplit, Fault, Item
from d2ext.data.formats.image_files import child, folders_in, listed, split_of
from d2ext.errors import DataError


def read_panoptic(part: CocoSplit, document: Item) -> DatasetSplit:
    """Read a panoptic document.

    Raises:
        DataError: it lacks COCO's keys; images or segment maps are not found.
    """
    document = checks.with_coco_keys(part.path, document)
    classes, indices = categories(part.path, document["categories"])
    faults: list[Fault] = []
    images = image_items(part, document["images"], faults)
    maps = _map_folder(part, [str(item.get("file_name")) for item in document["annotations"]])
    by_id = {image["image_id"]: image for image in images}
    isthing = {item["id"]: bool(item.get("isthing", 1)) for item in document["categories"]}
    for number, item in enumerate(document["annotations"], start=1):
        image = by_id.get(item.get("image_id"))
        if image is None:
            where = f"{part.path}:annotation {number}"
            faults.append(Fault("annotation of an unknown image", where))
            continue
        image["pan_seg_file_name"] = str(maps / str(item["file_name"]))
        image["segments_info"] = _segments(part, item, image, indices, isthing, faults)
    missing = [image for image in images if "pan_seg_file_name" not in image]
    faults += [Fault("image without segments", str(part.path), i["file_name"]) for i in missing]
    for image in images:
        del image["annotations"]
    return DatasetSplit(
        format="COCO panoptic",
        path=part.path,
        split=part.split,
        task="panoptic",
        classes=classes,
        images=[image for image in images if "pan_seg_file_name" in image],
        faults=faults,
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
    faults: list[Fault],
) -> list[Item]:
    found = []
    for segment in item["segments_info"]:
        category = segment.get("category_id")
        if category in indices and isinstance(segment.get("id"), int):
            more = {"category_id": indices[category], "isthing": isthing[category]}
            found.append({**segment, "iscrowd": int(bool(segment.get("iscrowd"))), **more})
        else:
            where = f"{part.path}:segment {segment.get('id')}"
            faults.append(Fault("unknown category", where, image["file_name"], str(category)))
    return found


def _map_folder(part: CocoSplit, names: list[str]) -> Path:
    tried = list(dict.fromkeys(_candidates(part)))
    for folder in tried:
        if any((folder / name).is_file() for name in (names[0], names[-1])):
            return folder
    raise DataError(
        f"{part.path}: its segment maps ({listed(names, 2)}) are in none of "
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
