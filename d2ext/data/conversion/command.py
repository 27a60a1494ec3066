"""The command that converts data sets between formats."""

import argparse
import json
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from d2ext.data.conversion.coco import coco_document
from d2ext.data.conversion.plan import Losses, Plan, plan
from d2ext.data.conversion.voc import write_voc
from d2ext.data.conversion.yolo import write_yolo
from d2ext.data.flags import parse_dataset_flag
from d2ext.data.sources import load_splits, with_classes
from d2ext.errors import DataError, OutputError

EXAMPLES = """\
examples:
  python tools/convert_data.py my/voc --to coco my/coco
  python tools/convert_data.py my/train.json:my/images --to yolo my/yolo --images copy

What the target cannot hold is counted and said. SOURCE is left as it is; OUT must be new or empty,
and appears when it is complete.
"""

Writer = Callable[[Path, Sequence[Plan], Losses], dict[str, Path]]


def main(argv: Sequence[str] | None = None) -> None:
    """Convert as the arguments say.

    Raises:
        UserError: the source cannot be read or does not fit, or OUT is in use.
    """
    args = argument_parser().parse_args(argv)
    path, images = parse_dataset_flag(args.source)
    losses: Losses = Counter()
    plans = read_plans(path, images, losses)
    for each in plans:
        print(each.source.describe())
    write_folder(Path(args.out), plans, WRITERS[args.to], losses, link=args.images == "link")
    for what, count in sorted(losses.items()):
        if count:
            print(f"  {args.to} does not hold: {count} {what}")
    print(f"written: {args.out}")


def argument_parser() -> argparse.ArgumentParser:
    """The arguments of tools/convert_data.py."""
    parser = argparse.ArgumentParser(
        description="Convert a data set of any known format to COCO, YOLO or Pascal VOC.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", help="PATH or ANNOTATIONS:IMAGES")
    parser.add_argument("--to", required=True, choices=sorted(WRITERS))
    parser.add_argument("out", metavar="OUT", help="a new or empty folder")
    parser.add_argument(
        "--images",
        choices=("link", "copy"),
        default="link",
        help="hard links take no space, and become copies on another disk (default: link)",
    )
    return parser


def read_plans(path: Path, images: Path | None, losses: Losses) -> list[Plan]:
    """All splits of a data set, with the same classes.

    Raises:
        DataError: it cannot be read, or holds masks of pixels instead of objects.
    """
    sources = load_splits(path, images=images)
    classes = max((source.classes for source in sources.values()), key=len)
    missing = {name for s in sources.values() for name in s.classes} - set(classes)
    classes += tuple(sorted(missing))
    taken: set[str] = set()
    plans = []
    for split, source in sources.items():
        if source.task in ("semantic", "panoptic"):
            raise DataError(
                f"{path}: {source.task} masks have no objects to convert; COCO's boxes, YOLO and "
                "Pascal VOC hold objects."
            )
        plans.append(plan(with_classes(source, classes), split, losses, taken))
    return plans


def write_folder(
    out: Path, plans: Sequence[Plan], write: Writer, losses: Losses, *, link: bool
) -> None:
    """Write a data set into `out`, complete or not at all.

    Raises:
        OutputError: there is something in `out`, or it cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out}: is there already and not empty. Name a new folder.")
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
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_coco(folder: Path, plans: Sequence[Plan], losses: Losses) -> dict[str, Path]:
    """Write annotations/instances_<split>.json; returns where the images of each split belong."""
    places = {plan.split: folder / "images" / plan.split for plan in plans}
    (folder / "annotations").mkdir()
    for each in plans:
        document = coco_document(each.source)
        for image, name in zip(document["images"], each.names, strict=True):
            image["file_name"] = name
        name = "_".join(filter(None, ("instances", each.split)))
        text = json.dumps(document, ensure_ascii=False)
        (folder / "annotations" / f"{name}.json").write_text(text, encoding="utf-8")
    return places


def _place_images(each: Plan, folder: Path, losses: Losses, link: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for image, name in zip(each.source.images, each.names, strict=True):
        source = Path(image["file_name"])
        if not source.is_file():
            losses["images that are not there"] += 1
            continue
        try:
            if not link:
                raise OSError
            os.link(source.resolve(), folder / name)
        except OSError:
            shutil.copyfile(source, folder / name)


WRITERS: dict[str, Writer] = {"coco": write_coco, "yolo": write_yolo, "voc": write_voc}
