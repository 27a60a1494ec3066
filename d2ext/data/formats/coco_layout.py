"""Which JSON files in COCO's formats a folder has, and where the images of each are.

Recognised by `_annotations.coco.json` (as exports have it, in each split's folder or alone), or by
`annotations/instances_<split>.json` and the like.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from d2ext.data.formats.image_files import (
    child,
    files_in,
    folders_in,
    split_folders,
    split_of,
    without_split,
)
from d2ext.data.formats.label_studio import is_label_studio
from d2ext.data.formats.near_names import NearNames
from d2ext.data.formats.text_files import head_of
from d2ext.data.formats.via import is_via
from d2ext.errors import DataError
from d2ext.text import first_few

_EXPORT = "_annotations.coco.json"
_SECTIONS = ('"annotations"', '"images"', '"categories"', '"info"', '"licenses"')
_HEAD = 1 << 16  # bytes of a JSON file from which its format is detected


@dataclass(frozen=True)
class CocoSplit:
    """A JSON file in one of COCO's formats.

    Args:
        path: of the file.
        split: "train", "val", "test" or "".
        images: folder of its images; None: it is looked for.
    """

    path: Path
    split: str
    images: Path | None = None


def find(path: Path, images: Path | None) -> dict[str, CocoSplit]:
    """Find the splits of a COCO data set at `path`; none where it is something else."""
    if path.is_file() or is_named(path, images):
        known = path.suffix.lower() == ".json" and not _is_of_another_tool(path)
        return {"": CocoSplit(path, split_of(path.stem), images)} if known else {}
    if segments := ade20k_panoptic(path):
        return segments
    if (path / _EXPORT).is_file():
        return {"": CocoSplit(path / _EXPORT, split_of(path.name), path)}
    exports = {split: folder / _EXPORT for split, folder in split_folders(path).items()}
    found = {split: file for split, file in exports.items() if file.is_file()}
    if found:
        return {split: CocoSplit(file, split, file.parent) for split, file in found.items()}
    folder = path if path.name.lower() == "annotations" else child(path, "annotations") or path
    return {
        split: CocoSplit(file, split, images) for split, file in _files_by_split(folder).items()
    }


def ade20k_panoptic(path: Path) -> dict[str, CocoSplit]:
    """Find ADE20K's panoptic JSON files, which hold its semantic masks as well, beside images/."""
    files = {split: path / f"ade20k_panoptic_{split}.json" for split in ("train", "val")}
    return {split: CocoSplit(file, split) for split, file in files.items() if file.is_file()}


def is_named(path: Path, images: Path | None) -> bool:
    """Return true for ANNOTATIONS.json:IMAGES: such a file is read even where it is not there yet.

    The reader then says what is missing better than a search through all formats.
    """
    return images is not None and path.suffix.lower() == ".json"


def locate_images(part: CocoSplit, names: Sequence[str]) -> tuple[Path, Sequence[str]]:
    """Find the images' folder, and return it with the path of each image from there.

    Paths with backslashes, and those of the machine that wrote the file, count by what is left:
    the names alone, where no two images share one. Where no file has such a name, one that nearly
    has it counts, see `NearNames`.

    Raises:
        DataError: no image is in any place; names every place that was tried.
    """
    tried = list(dict.fromkeys(_candidates(part)))
    for candidates in _readings(names):
        probes = _probes(candidates)
        for folder in tried:
            if any(os.path.isfile(folder / name) for name in probes):
                return folder, candidates
    near = NearNames()
    for candidates in _readings(names):
        probes = _probes(candidates)
        for folder in tried:
            if any(near.find(*os.path.split(folder / name)) for name in probes):
                return folder, candidates
    if part.images is not None and part.images.is_dir():
        return part.images, names
    if part.images is not None and not part.images.exists():
        raise DataError(
            f"{part.images}: no such image folder, named for the annotations in {part.path}. "
            "Give it after the colon: ANNOTATIONS:IMAGES."
        )
    raise DataError(
        f"{part.path}: its images ({first_few(dict.fromkeys(_probes(names)), 2)}) are in none of "
        f"{', '.join(map(str, tried))}. Name the folder: {part.path}:IMAGES."
    )


def _readings(names: Sequence[str]) -> Iterable[Sequence[str]]:
    """Yield the paths as given, with slashes for backslashes, and the base names if unique."""
    yield names
    slashed = [name.replace("\\", "/") for name in names]
    yield slashed
    bases = [name.rpartition("/")[2] for name in slashed]
    if len({*bases}) == len({*names}):
        yield bases


def _probes(names: Sequence[str]) -> list[str]:
    return [names[0], names[len(names) // 2], names[-1]]


def _candidates(part: CocoSplit) -> Iterable[Path]:
    split = part.split
    if part.images is not None:
        yield part.images
        yield from _named_as(part.images, split, part.path.stem)
        return
    here = part.path.parent
    for base in (here, here.parent):
        yield base
        for name in ("images", "imgs", "img", "JPEGImages", "data"):
            if (folder := child(base, name)) is not None:
                yield folder
                yield from _named_as(folder, split, part.path.stem)
        yield from _named_as(base, split, part.path.stem)


def _named_as(folder: Path, split: str, stem: str) -> Iterable[Path]:
    """Yield the folders of the split, or named as part of the file: `train2017` of instances_."""
    for path in folders_in(folder):
        if (split and split_of(path.name) == split) or path.name.lower() in stem.lower():
            yield path


def _files_by_split(folder: Path) -> dict[str, Path]:
    """Find the JSON files of one family in `folder`, by split: instances before all others."""
    families: dict[str, dict[str, Path]] = {}
    for file in files_in(folder, ".json"):
        split = split_of(file.stem)
        if split or file.stem.lower() in ("annotations", "instances", "instances_default"):
            family = without_split(file.stem)
            families.setdefault(family, {}).setdefault(split, file)
    usable = {name: found for name, files in families.items() if (found := _of_coco(files))}
    if len(usable) > 1 and "instances" in usable:
        return usable["instances"]
    if len(usable) > 1:
        raise DataError(
            f"{folder}: several families of annotations: "
            f"{', '.join(str(next(iter(files.values()))) for files in usable.values())}. Name one "
            "of the files."
        )
    return next(iter(usable.values()), {}) or _only_file(folder)


def _of_coco(files: Mapping[str, Path]) -> dict[str, Path]:
    """Return the files of a family of which the training file, or all, look like COCO's.

    A validation file that does not is broken: reading it says so.
    """
    alike = {split: file for split, file in files.items() if _looks_like_coco(file)}
    if "train" in alike and (validation := files.get("val")):
        return alike | {"val": validation}
    return alike if len(alike) == len(files) or "train" in alike else {}


def _only_file(folder: Path) -> dict[str, Path]:
    """Find the JSON file that alone looks like COCO's, whatever its name: "result.json"."""
    files = [file for file in files_in(folder, ".json") if _looks_like_coco(file)]
    return {split_of(files[0].stem): files[0]} if len(files) == 1 else {}


def _looks_like_coco(file: Path) -> bool:
    """Return true if the file may hold images; keys come in any order, so a big one may."""
    head = head_of(file, _HEAD)
    if head.lstrip().startswith("["):
        return False  # a list, as Label Studio has it
    if file.stat().st_size < _HEAD:
        return '"annotations"' in head and '"images"' in head
    return '"shapes"' not in head and any(key in head for key in _SECTIONS)


def _is_of_another_tool(file: Path) -> bool:
    """Return true for JSON of labelme, VIA and Label Studio."""
    head = head_of(file, _HEAD)
    labelme = '"shapes"' in head and '"annotations"' not in head
    return labelme or is_via(file) or is_label_studio(file)
