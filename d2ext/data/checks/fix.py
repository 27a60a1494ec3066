"""A repaired copy of data sets: what can be mended is, what cannot is left out, all is listed.

The source is only read. Objects are written as COCO JSON beside copies of their images, semantic
masks as copies of images and label images.
"""

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from d2ext.data.checks.copying import copy_image, unique_names
from d2ext.data.checks.mending import mended
from d2ext.data.checks.report import Fault, Report
from d2ext.data.conversion.coco import coco_document
from d2ext.data.formats import DatasetSplit
from d2ext.errors import DataError, OutputError
from d2ext.files import replacing

_LEFT_OUT = "leaves the "  # how the fix of a kind starts that drops something


def write_repaired(sources: Mapping[str, DatasetSplit], report: Report, out: Path) -> list[str]:
    """Write `<out>/<name>.json` and `<out>/images/<name>/` for each source.

    Args:
        sources: by the names that `report` has them under.
        report: of the check of exactly these sources.
        out: a folder that is empty or does not exist.
    Returns:
        What was repaired and written, in lines for a person; `<out>/repairs.json` has all of it.
    Raises:
        DataError: nothing is left of a source, or `out` lies in the folder of its images.
        OutputError: `out` is not empty or cannot be written to.
    """
    _check_place(sources, out)
    classes = _kept_classes(sources)
    lines = []
    for name, source in sources.items():
        faults = [fault for fault in report.faults if fault.split == name]
        repaired = mended(source, faults, classes)
        if not repaired.images:
            raise DataError(f"{source.path}: nothing is left of {name} after repairs.")
        lines.append(f"written: {_write(name, repaired, faults, out)}")
    fixed = [fault for fault in report.faults if fault.kind.fix]
    listing = Report(report.about, fixed)
    listing.write(out / "repairs.json")
    counts = Counter(fault.kind for fault in fixed)
    told = [f"repaired: {kind.code}, {n}: {kind.fix}" for kind, n in counts.items()]
    return [*told, *lines, f"written: {out / 'repairs.json'}"]


def _check_place(sources: Mapping[str, DatasetSplit], out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"--fix {out}: is not empty. Name a folder that does not exist yet.")
    inside = {Path(i["file_name"]).resolve().parent for s in sources.values() for i in s.images}
    inside &= {out.resolve(), *out.resolve().parents}
    if inside:
        raise DataError(f"--fix {out}: lies in {inside.pop()}, among the data. Name another place.")


def _kept_classes(sources: Mapping[str, DatasetSplit]) -> tuple[str, ...]:
    """Names without outer spaces, in the order of the first source; those with objects anywhere."""
    used: dict[str, bool] = {}
    for source in sources.values():
        semantic = source.task in ("semantic", "panoptic")
        for name in source.classes:
            used[name.strip()] = used.get(name.strip(), False) or semantic
        for image in source.images:
            for item in image.get("annotations", ()):
                used[source.classes[item["category_id"]].strip()] = True
    return tuple(name for name, is_used in used.items() if is_used)


def _write(name: str, source: DatasetSplit, faults: list[Fault], out: Path) -> Path:
    folder = out / "images" / name
    names = unique_names([Path(image["file_name"]) for image in source.images])
    upright = {fault.image for fault in faults if fault.code == "image-turned"}
    shallow = {fault.image for fault in faults if fault.code == "image-depth"}
    images = []
    for image, target in zip(source.images, names, strict=True):
        path = Path(image["file_name"])
        written = copy_image(path, folder / target, turned=path in upright, deep=path in shallow)
        images.append({**image, "file_name": str(written)})
    source = replace(source, images=images)
    if source.task == "semantic":
        return _write_labels(name, source, out)
    path = out / f"{name}.json"
    with replacing(path) as part:
        document = coco_document(source, folder)
        part.write_text(json.dumps(document), encoding="utf-8")
    return path


def _write_labels(name: str, source: DatasetSplit, out: Path) -> Path:
    folder = out / "labels" / name
    folder.mkdir(parents=True, exist_ok=True)
    for image in source.images:
        target = folder / f"{Path(image['file_name']).stem}.png"
        shutil.copyfile(image["sem_seg_file_name"], target)
    (out / "classes.txt").write_text("\n".join(source.classes) + "\n", encoding="utf-8")
    return folder
