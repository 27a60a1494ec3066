"""Records and images that training cannot use, taken out of a data set and listed.

A few are left out with a warning; where half of them are faulty, something larger is wrong, and the
checks of `d2ext.data.checks.document` refuse the file.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from d2ext.data import checks
from d2ext.data.checks import Document, Item
from d2ext.data.formats import DatasetSplit
from d2ext.data.formats import Fault as SourceFault
from d2ext.data.image_info import ImageInfo, read_label_info
from d2ext.data.image_info_cache import read_image_infos
from d2ext.data.parallel import map_files
from d2ext.errors import DataError

Fault = dict[str, Any]


def leave_out_records(document: Document) -> list[Fault]:
    """Take out annotations that are incomplete or name an unknown image or class; what they were.

    Nothing happens where these are half of all or more.
    """
    annotations: list[Item] = document["annotations"]
    names = {image.get("id"): image.get("file_name") for image in document["images"]}
    classes = {item.get("id") for item in document["categories"]}
    reasons = [_reason(item, names, classes) for item in annotations]
    if 2 * sum(bool(reason) for reason in reasons) >= len(annotations):
        return []
    document["annotations"] = [a for a, r in zip(annotations, reasons, strict=True) if not r]
    return [
        {
            "annotation": item.get("id"),
            "image": _get(names, item.get("image_id")),
            "reason": reason,
        }
        for item, reason in zip(annotations, reasons, strict=True)
        if reason
    ]


def leave_out_images(path: Path, document: Document, folder: Path) -> list[Fault]:
    """Take out images that cannot be read or have another size, and what is on them.

    Raises:
        DataError: `folder`, or half of the images or more, are missing or unusable.
    """
    images: list[Item] = document["images"]
    probes = read_image_infos([folder / image["file_name"] for image in images])
    found = [_problem(image, probes[folder / image["file_name"]]) for image in images]
    bad = {number: problem for number, problem in enumerate(found) if problem}
    if 2 * sum(code == "image-missing" for code, _ in bad.values()) >= len(images):
        checks.check_images(path, document, folder)
    if 2 * len(bad) >= len(images):
        listed = checks.examples(
            f"{images[n]['file_name']} ({detail})" for n, (_, detail) in bad.items()
        )
        raise DataError(
            f"{path}: {len(bad)} of {len(images)} images in {folder} cannot be used: {listed}. "
            "tools/check_data.py lists them all."
        )
    out = {images[number]["id"] for number in bad}
    lost = Counter(item["image_id"] for item in document["annotations"])
    document["images"] = [image for n, image in enumerate(images) if n not in bad]
    document["annotations"] = [a for a in document["annotations"] if a["image_id"] not in out]
    if not document["annotations"]:
        raise DataError(
            f"{path}: every annotation is on one of the {len(bad)} images that cannot be used: "
            f"{checks.examples(images[n]['file_name'] for n in bad)}."
        )
    return [
        {
            "image": images[number]["file_name"],
            "reason": code,
            "found": detail,
            "annotations": lost[images[number]["id"]],
        }
        for number, (code, detail) in bad.items()
    ]


def leave_out_label_images(source: DatasetSplit) -> None:
    """Take out images of semantic masks that cannot be used; each becomes a fault of `source`.

    Raises:
        DataError: none is left.
    """
    probes = read_image_infos([Path(image["file_name"]) for image in source.images])
    found = map_files(
        read_label_info, [Path(image["sem_seg_file_name"]) for image in source.images]
    )
    kept = []
    for image in source.images:
        size = (image["width"], image["height"])
        labels = found[Path(image["sem_seg_file_name"])]
        problem = _problem(image, probes[Path(image["file_name"])])
        if problem is None and labels.problem:
            problem = labels.problem, labels.detail
        elif problem is None and labels.size != size:
            problem = "labels-size", f"{labels.size}, the image {size}"
        if problem is None:
            kept.append(image)
        else:
            code, detail = problem
            source.faults.append(
                SourceFault(code, image["annotated_in"], image["file_name"], detail)
            )
    source.images = kept
    if not kept:
        raise DataError(f"{source.path}: {source.faults[-1].detail}; so are all other images.")


def _reason(item: Item, images: dict[Any, Any], classes: set[Any]) -> str:
    for key in ("image_id", "category_id", "bbox"):
        if item.get(key) is None:
            return f'annotation without "{key}"'
    if not checks.is_box(item["bbox"]):
        return "box that is not four numbers"
    if not _known(item["image_id"], images.__contains__):
        return "annotation of an unknown image"
    if not _known(item["category_id"], classes.__contains__):
        return "annotation of an unknown class"
    return ""


def _known(value: Any, among: Callable[[Any], bool]) -> bool:
    return isinstance(value, (int, str)) and among(value)


def _get(names: dict[Any, Any], key: Any) -> Any:
    return names.get(key) if isinstance(key, (int, str)) else None


def _problem(image: Item, found: ImageInfo) -> tuple[str, str] | None:
    """The code and detail of what keeps training from reading an image; None if nothing does."""
    if found.problem:
        return found.problem, found.detail
    stated, size = (image["width"], image["height"]), found.upright_size
    if stated == size:
        return None
    code = "image-turned" if stated == found.size else "image-size"
    detail = f"{size[0]} x {size[1]} pixels, its annotation says {stated[0]} x {stated[1]}"
    return code, detail
