"""Format detection: every registered format is asked about a path, and one may answer."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2ext.config.projects import import_projects
from d2ext.data.formats import (
    cityscapes,
    coco,
    cvat,
    dota,
    label_studio,
    labelme,
    semantic,
    table,
    via,
    voc,
    yolo,
)
from d2ext.data.formats.archive import (
    naming_user_paths,
    refuse_address,
    unpacked,
    with_user_paths,
)
from d2ext.data.formats.coco_layout import is_named
from d2ext.data.formats.common_task import agree_on_task
from d2ext.data.formats.dataset_split import DatasetSplit
from d2ext.data.formats.image_files import files_in, folders_in
from d2ext.data.formats.text_files import encoding_notes
from d2ext.data.formats.values import oddities_counted
from d2ext.data.issues import reading_issue
from d2ext.errors import DataError, NoImagesError
from d2ext.registry import ExtensionRegistry
from d2ext.text import first_few

Find = Callable[[Path, Path | None], Mapping[str, Any]]
Load = Callable[[Any], DatasetSplit]


@dataclass(frozen=True)
class Format:
    """A format of data sets; see `register_format`."""

    name: str
    find: Find
    load: Load


_FORMATS: ExtensionRegistry[str, Format] = ExtensionRegistry("data format")


def register_format(name: str, find: Find, load: Load) -> None:
    """Register a format of data sets, which `--train PATH` and all commands then recognise.

    A project calls it where it is imported as a plugin. Every format is asked about every path, so
    `find` looks at names and first bytes only, and answers for its own format alone.

    Args:
        name: as messages have it, such as "Pascal VOC".
        find: called with a path that exists and the folder of images, or None if that was not
            named. Returns the parts of the data set by split ("train", "val", "test"), one part
            with the key "" where it has no splits, nothing where the path holds something else. A
            part has an attribute `path` and holds what `load` needs.
        load: called with a part. Returns a `DatasetSplit`, whose docstring says what is certain of
            it. Records that cannot be read become its `issues`; nothing is logged.
    Raises:
        ValueError: the name is taken.
    """
    _FORMATS.register(name, Format(name, find, load))


_MODULES = (coco, voc, cvat, yolo, dota, labelme, via, label_studio, table, semantic, cityscapes)
for _module in _MODULES:
    register_format(_module.FORMAT, _module.find, _module.load)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class DetectedFormat:
    """A data set whose format is known and that is not read yet.

    Args:
        path: as it was named.
        format: the one that reads it.
        parts: by split; "" where the data set has no splits.
    """

    path: Path
    format: Format
    parts: Mapping[str, Any]

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(self.parts)

    def load(self, split: str) -> DatasetSplit:
        """Read one of `splits`.

        Raises:
            DataError: it cannot be read.
            NoImagesError: it lists no image, and none was left out.
        """
        with naming_user_paths(), oddities_counted() as oddities:
            dataset = self.format.load(self.parts[split])
            if not (dataset.images or dataset.issues):
                listed = f"{self.parts[split].path}: lists no images."
                raise NoImagesError(dataset.refusal or listed)
        dataset.path, dataset.split = self.path, split or dataset.split
        dataset.notes += encoding_notes(dataset.encodings)
        dataset.notes += [f"{count} {what}" for what, count in oddities.items()]
        return dataset


def detect_format(path: Path | str, images: Path | str | None = None) -> DetectedFormat:
    """Detect the format of a file or folder, by names and hardly any content.

    Formats of projects that no config has named are asked about a path that no other format knows.

    Args:
        path: annotations, or a folder that holds them and the images.
        images: their folder, where it cannot be found from `path`.
    Raises:
        DataError: there is nothing at `path`, no format is recognised, or more than one is.
    """
    refuse_address(str(path))
    path = Path(path).expanduser()
    images = None if images is None else Path(images).expanduser()
    if not path.exists() and not is_named(path, images):
        raise DataError(f"{path}: no such file or folder.{_neighbours(path)}")
    place = unpacked(path)
    with naming_user_paths():
        found = _ask_formats(path, place, images)
        if not found:
            import_projects()
            found = _ask_formats(path, place, images)
    if len(found) == 1:
        return found[0]
    raise DataError(with_user_paths(_ambiguous(path, found)) if found else _unknown(path, place))


def _ask_formats(path: Path, place: Path, images: Path | None) -> list[DetectedFormat]:
    """Return what the formats say of `place`, where the files of `path` are."""
    return [
        DetectedFormat(path, known, parts)
        for known in _FORMATS.values()
        if (parts := known.find(place, images))
    ]


def load_split(
    path: Path | str, split: str | None = None, *, images: Path | str | None = None
) -> DatasetSplit:
    """Read one split of a data set of any known format. Says nothing to the log.

    Args:
        path: a file or folder; see `detect_format`.
        split: "train", "val" or "test"; None where the data set has only one part.
        images: the folder of the images, where it cannot be found from `path`.
    Raises:
        DataError: as `detect_format`; or there is no such split, or there are several and none is
            named; or the files cannot be read at all. Single images and annotations that
            cannot be read raise nothing, they become `DatasetSplit.issues`.
    """
    known = detect_format(path, images)
    if split is None and len(known.splits) == 1:
        return known.load(known.splits[0])
    if split is None or split not in known.splits:
        raise DataError(
            f"{path}: {known.format.name} with the splits {', '.join(known.splits)}; "
            f"{'name one of them' if split is None else f'there is no {split}'}."
        )
    return known.load(split)


def load_splits(path: Path | str, *, images: Path | str | None = None) -> dict[str, DatasetSplit]:
    """Read every split of a data set; the key is "" where it has no splits.

    Exports name a test split that they do not bring, and a validation split may be empty: such a
    split is left out, an issue of the first one.

    Raises:
        DataError: as `load_split`.
    """
    known = detect_format(path, images)
    first, *others = sorted(known.splits, key=("train", "", "val", "test").index)
    found = {first: known.load(first)}
    for split in others:
        try:
            found[split] = known.load(split)
        except DataError as error:
            if split != "test" and not isinstance(error, NoImagesError):
                raise
            what = "split that cannot be read"
            found[first].issues.append(
                reading_issue("split-missing", what, str(path), found=str(error))
            )
    return dict(zip(found, agree_on_task(list(found.values())), strict=True))


def _ambiguous(path: Path, found: list[DetectedFormat]) -> str:
    held = "; ".join(f"{f.format.name}: {_place(f)}" for f in found)
    return f"{path}: holds annotations of several formats ({held}). Name one of these."


def _place(found: DetectedFormat) -> str:
    """Return the file of one part, or the folder that holds several."""
    return os.path.commonpath([part.path for part in found.parts.values()])


def _unknown(path: Path, place: Path) -> str:
    known = ", ".join(_FORMATS)
    inside = [f"{item.name}/" for item in folders_in(place)]
    inside += [item.name for item in files_in(place, "") if item.is_file()]
    held = f" In it: {first_few(inside, 8)}." if place.is_dir() else ""
    return f"{path}: no annotations recognised; known are {known}.{held}"


def _neighbours(path: Path) -> str:
    if not path.parent.is_dir():
        return f" There is no folder {path.parent} either."
    return f" In that folder: {first_few(sorted(p.name for p in path.parent.iterdir()), 8)}."
