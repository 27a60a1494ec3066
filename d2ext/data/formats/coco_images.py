"""Images and categories of a document in COCO's format."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from d2ext.data.formats.coco_layout import CocoSplit, locate_images
from d2ext.data.formats.dataset_split import Fault, Item
from d2ext.data.formats.image_files import image_size, listed
from d2ext.errors import DataError


def categories(path: Path, items: Sequence[Item]) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Names in the order of the ids, as Detectron2 numbers them, and the index of each id.

    Raises:
        DataError: an entry has no name, or an id that is no number or text.
    """
    wrong = [item for item in items if not is_id(item.get("id")) or item.get("name") is None]
    if wrong:
        raise DataError(
            f'{path}: categories need an "id", a whole number, and a "name": {listed(wrong)}.'
        )
    by_id = {item["id"]: str(item["name"]) for item in items}
    ids = sorted(by_id, key=lambda value: (isinstance(value, str), value))
    return tuple(by_id[i] for i in ids), {value: index for index, value in enumerate(ids)}


def image_items(part: CocoSplit, images: Sequence[Item], faults: list[Fault]) -> list[Item]:
    """Detectron2's dicts of a document's images, without annotations yet.

    Raises:
        DataError: no image has a file name, or none of the images named is found anywhere.
    """
    named = [item for item in images if item.get("file_name")]
    if not named:
        raise DataError(f'{part.path}: no images with a "file_name" in it.')
    folder, names = locate_images(part, [str(item["file_name"]) for item in named])
    found: list[Item] = []
    for number, (item, name) in enumerate(zip(named, names, strict=True), start=1):
        file = folder / name
        size = _declared(item) or image_size(file)
        if size is None:
            faults.append(Fault("image of unknown size", f"{part.path}", str(file)))
            continue
        if not is_id(item.get("id")):
            faults.append(Fault("image without an id", f"{part.path}:image {number}", str(file)))
        found.append(
            {
                "file_name": str(file),
                "image_id": item["id"] if is_id(item.get("id")) else f"image {number}",
                "width": size[0],
                "height": size[1],
                "annotated_in": str(part.path),
                "annotations": [],
            }
        )
    if len(named) < len(images):
        faults.append(Fault("image without a file name", str(part.path)))
    return found


def is_id(value: Any) -> bool:
    """Whether a document can name something by `value`."""
    return isinstance(value, (int, str))


def _declared(item: Item) -> tuple[int, int] | None:
    size = item.get("width"), item.get("height")
    if all(isinstance(n, (int, float)) and 0 < n < math.inf for n in size):
        return int(size[0]), int(size[1])  # type: ignore[arg-type] # numbers, as just checked
    return None
