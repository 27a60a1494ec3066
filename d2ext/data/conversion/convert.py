"""Conversion of a whole data set to another format, all splits at once."""

import json
import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from d2ext.data.containment import is_image
from d2ext.data.conversion.coco import coco_document
from d2ext.data.conversion.plan import Losses, Plan, plan
from d2ext.data.conversion.voc import write_voc
from d2ext.data.conversion.yolo import write_yolo
from d2ext.data.formats import load_splits, with_classes
from d2ext.data.formats.dataset_split import PIXEL_TASKS
from d2ext.data.formats.keypoint_names import mirror_pairs
from d2ext.errors import DataError, OutputError
from d2ext.files import check_new_folder

Writer = Callable[[Path, Sequence[Plan], Losses], dict[str, Path]]


def read_plans(path: Path, images: Path | None, losses: Losses) -> list[Plan]:
    """Read all splits of a data set, with the same classes.

    Raises:
        DataError: it cannot be read, or holds masks of pixels or boxes in space.
    """
    splits = load_splits(path, images=images)
    classes = max((dataset.classes for dataset in splits.values()), key=len)
    missing = {name for s in splits.values() for name in s.classes} - set(classes)
    classes += tuple(sorted(missing))
    taken: set[str] = set()
    plans = []
    for split, dataset in splits.items():
        if dataset.task in PIXEL_TASKS:
            raise DataError(
                f"{path}: {dataset.task} masks have no objects to convert; COCO's boxes, YOLO and "
                "Pascal VOC hold objects."
            )
        if dataset.lacks_boxes:
            raise DataError(f"{path}: the objects of {dataset.format} have no boxes in images.")
        plans.append(plan(with_classes(dataset, classes), split, losses, taken))
    return plans


def write_folder(
    out: Path, plans: Sequence[Plan], write: Writer, losses: Losses, *, link: bool
) -> None:
    """Write a data set into `out`, complete or not at all.

    Raises:
        OutputError: there is something in `out`, or it cannot be written.
        DataError: a name holds half of a surrogate pair.
    """
    check_new_folder(out, "OUT")
    part = out.with_name(f".{out.name}-{uuid.uuid4().hex[:8]}")
    try:
        part.mkdir(parents=True)
        places = write(part, plans, losses)
        for each in plans:
            _place_images(each, places[each.split], losses, link)
        if out.exists():
            out.rmdir()
        part.rename(out)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror or error}).") from error
    except UnicodeEncodeError as error:
        raise DataError(
            f"{plans[0].dataset.path}: a name holds {error.object[error.start]!r}, half of a "
            "character, which no text file can hold. Rename that class or image."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_coco(folder: Path, plans: Sequence[Plan], losses: Losses) -> dict[str, Path]:
    """Write annotations/instances_<split>.json; returns where the images of each split belong."""
    places = {plan.split: folder / "images" / plan.split for plan in plans}
    (folder / "annotations").mkdir()
    for each in plans:
        metadata = each.dataset.metadata
        pairs = {*map(tuple, metadata.get("keypoint_flip_map") or ())}
        named = {*mirror_pairs(metadata.get("keypoint_names") or ())}
        losses["pairs of keypoints for mirroring (flip_idx)"] += len(pairs - named)
        document = coco_document(each.dataset)
        for image, name in zip(document["images"], each.names, strict=True):
            image["file_name"] = name
        name = "_".join(filter(None, ("instances", each.split)))
        text = json.dumps(document, ensure_ascii=False)
        (folder / "annotations" / f"{name}.json").write_text(text, encoding="utf-8")
    return places


def _place_images(each: Plan, folder: Path, losses: Losses, link: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for image, name in zip(each.dataset.images, each.names, strict=True):
        dataset = Path(image["file_name"])
        if not dataset.is_file():
            losses["images that are not there"] += 1
            continue
        if not is_image(dataset):
            losses["files that are no images"] += 1
            continue
        try:
            if not link:
                raise OSError
            os.link(dataset.resolve(), folder / name)
        except OSError:
            shutil.copyfile(dataset, folder / name)


WRITERS: dict[str, Writer] = {"coco": write_coco, "yolo": write_yolo, "voc": write_voc}
