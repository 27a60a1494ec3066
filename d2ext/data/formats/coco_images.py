"""Images and categories of a document in COCO's format."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from d2ext.data.formats.coco_document import check_fields
from d2ext.data.formats.coco_layout import CocoSplit, locate_images
from d2ext.data.formats.dataset_split import Item
from d2ext.data.formats.image_files import image_size
from d2ext.data.formats.near_names import NearNames
from d2ext.data.formats.values import as_id, as_numbers, as_size
from d2ext.data.issues import Issue, reading_issue
from d2ext.errors import DataError
from d2ext.text import first_few

IDS = (int, str)  # what a document can name something by
_NO_GROUP = ("none", "None", "")  # supercategories of a group itself


def categories(path: Path, items: Sequence[Item]) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Return names in the order of the ids, as Detectron2 numbers them, and the index of each id.

    Raises:
        DataError: an entry has no name, or an id that is no number or text.
    """
    check_fields(path, "categories", items)
    wrong = [item["id"] for item in items if not isinstance(item["id"], IDS)]
    if wrong:
        raise DataError(f'{path}: "id" of categories must be whole numbers: {first_few(wrong)}.')
    by_id = {item["id"]: str(item["name"]) for item in items}
    ids = sorted(by_id, key=sort_key)
    return tuple(by_id[i] for i in ids), {value: index for index, value in enumerate(ids)}


def parse_values(document: Item) -> None:
    """Replace ids and sizes that are written as text or fractions by numbers, in place.

    Ids of images stay texts where they are: "007" is no number, and annotations may say the same.
    """
    for item in document["categories"]:
        if "id" in item:
            item["id"] = as_id(item["id"])
    for item in document["images"]:
        if isinstance(item.get("id"), float):
            item["id"] = as_id(item["id"])
        for key in ("width", "height"):
            if isinstance(item.get(key), str) and (found := as_numbers([item[key]])):
                item[key] = found[0]
        if not item.get("file_name") and isinstance(address := _address(item), str):
            item["file_name"] = address


def _address(item: Item) -> str | None:
    """Return folder and name of an image that has an address alone, as in LVIS."""
    address = item.get("coco_url") or item.get("flickr_url") or item.get("url")
    if not isinstance(address, str) or not address:
        return None
    return "/".join(address.partition("?")[0].rstrip("/").split("/")[-2:])


def drop_empty_group(document: Item) -> str:
    """Drop the category that Roboflow lists for the group of all others, in place.

    Returns:
        A note of it; "" where there is no such category, or objects have it.
    """
    items = document["categories"]
    first = next((item for item in items if item.get("supercategory") in _NO_GROUP), None)
    others = [item for item in items if item is not first]
    name = first.get("name") if first is not None else None
    if first is None or not others or any(o.get("supercategory") != name for o in others):
        return ""
    if any(as_id(item.get("category_id")) == first.get("id") for item in document["annotations"]):
        return ""
    document["categories"] = others
    return f"{name!r} is the group of all classes and has no objects: it is no class"


def image_items(
    part: CocoSplit, images: Sequence[Item], issues: list[Issue], notes: list[str]
) -> list[Item]:
    """Build Detectron2's dicts of a document's images, without annotations yet.

    Args:
        issues: gets those of images that are left out.
        notes: gets a line about images that are found under nearly their names.
    Returns:
        The dicts in the order of their ids, as Detectron2 has them.
    Raises:
        DataError: no image has a file name, or none of the images named is found anywhere.
    """
    named = [item for item in images if item.get("file_name")]
    if not named:
        raise DataError(f'{part.path}: no images with a "file_name" in it.')
    folder, names = locate_images(part, [str(item["file_name"]) for item in named])
    annotated_in = str(part.path)
    found: list[Item] = []
    files = _as_on_disk([_join(str(folder), name) for name in names], notes)
    for number, (item, file) in enumerate(zip(named, files, strict=True), start=1):
        size = as_size([item.get("width"), item.get("height")]) or image_size(file)
        if size is None:
            what = "image of unknown size"
            issues.append(reading_issue("image-unreadable", what, annotated_in, file))
            continue
        image_id = item.get("id")
        if not isinstance(image_id, IDS):
            where = f"{annotated_in}:image {number}"
            issues.append(reading_issue("record-broken", "image without an id", where, file))
            image_id = f"image {number}"
        found.append(
            {
                "file_name": file,
                "image_id": image_id,
                "width": size[0],
                "height": size[1],
                "annotated_in": annotated_in,
                "annotations": [],
            }
        )
    if len(named) < len(images):
        what = "image without a file name"
        issues.append(reading_issue("record-broken", what, annotated_in))
    found.sort(key=lambda image: sort_key(image["image_id"]))
    return found


def _as_on_disk(files: Sequence[str], notes: list[str]) -> list[str]:
    """Replace the paths of files that are not there by those of nearly the same name."""
    near, found, changed, listed = NearNames(), [], [], set(files)
    for file in files:
        folder, name = os.path.split(file)
        other = None if near.is_listed(folder, name) else near.find(folder, name)
        if other is not None and (path := os.path.join(folder, other)) not in listed:
            changed.append(f"{name}: {other}")
            found.append(path)
        else:
            found.append(file)
    if changed:
        notes.append(
            f"{len(changed)} images are found under names of another case, suffix or encoding, "
            f"{first_few(changed, 1)}"
        )
    return found


def _join(folder: str, name: str) -> str:
    # pathlib, which tidies "./" and "//", takes ten times as long.
    plain = "//" not in name and "./" not in name and name[0] != "/"
    return os.path.join(folder, name) if plain else str(Path(folder, name))


def sort_key(value: int | str) -> tuple[bool, int | str]:
    """Sort ids: numbers before texts, which cannot be compared with each other."""
    return isinstance(value, str), value
