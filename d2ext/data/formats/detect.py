"""What a path holds: asks every format, and insists on one answer."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from d2ext.data.formats import coco, dota, labelme, semantic, table, voc, yolo
from d2ext.data.formats.dataset_split import DatasetSplit, Fault
from d2ext.data.formats.image_files import files_in, folders_in, listed
from d2ext.errors import DataError


class Format(Protocol):
    """A module of this package that reads one format."""

    FORMAT: str

    @property
    def find(self) -> Callable[[Path, Path | None], Mapping[str, Any]]:
        """Parts by split ("" where there are none) of what is at a path; empty if it is not."""

    @property
    def load(self) -> Callable[[Any], DatasetSplit]:
        """Reads a part."""


FORMATS: tuple[Format, ...] = (coco, voc, yolo, dota, labelme, table, semantic)


@dataclass(frozen=True)
class DetectedFormat:
    """A data set whose format is known and that is not read yet.

    Args:
        path: as it was named.
        format: the module that reads it.
        parts: by split; "" where the data set has no splits.
    """

    path: Path
    format: Format
    parts: Mapping[str, Any]

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.parts)

    def load(self, split: str) -> DatasetSplit:
        """Read one of `splits`."""
        dataset = self.format.load(self.parts[split])
        dataset.path, dataset.split = self.path, split or dataset.split
        return dataset


def detect_format(path: Path | str, images: Path | str | None = None) -> DetectedFormat:
    """Find out the format of a file or folder. Names are looked at, hardly any content.

    Args:
        path: annotations, or a folder that holds them and the images.
        images: their folder, where it cannot be found from `path`.
    Raises:
        DataError: there is nothing at `path`, no format is recognised, or more than one is.
    """
    path = Path(path).expanduser()
    images = None if images is None else Path(images).expanduser()
    if not path.exists():
        raise DataError(f"{path}: no such file or folder.{_neighbours(path)}")
    found = [
        DetectedFormat(path, module, parts)
        for module in FORMATS
        if (parts := module.find(path, images))
    ]
    if len(found) == 1:
        return found[0]
    raise DataError(_ambiguous(path, found) if found else _unknown(path))


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
            named; or the files cannot be read at all. Faults of single images and annotations
            raise nothing, they stand in `DatasetSplit.faults`.
    """
    known = detect_format(path, images)
    if split is None and len(known.splits) == 1:
        return known.load(known.splits[0])
    if split is None or split not in known.splits:
        raise DataError(
            f"{path}: {known.format.FORMAT} with the splits {', '.join(known.splits)}; "
            f"{'name one of them' if split is None else f'there is no {split}'}."
        )
    return known.load(split)


def load_splits(path: Path | str, *, images: Path | str | None = None) -> dict[str, DatasetSplit]:
    """Read every split of a data set; the key is "" where it has no splits.

    Exports name a test split that they do not bring: it is left out, and told with the first.

    Raises:
        DataError: as `load_split`.
    """
    known = detect_format(path, images)
    needed = [split for split in known.splits if split != "test"] or known.splits
    found = {split: known.load(split) for split in needed}
    if "test" in known.splits and "test" not in found:
        try:
            found["test"] = known.load("test")
        except DataError as error:
            first = next(iter(found.values()))
            first.faults.append(Fault("split that cannot be read", str(path), detail=str(error)))
    return found


def _ambiguous(path: Path, found: list[DetectedFormat]) -> str:
    held = "; ".join(f"{f.format.FORMAT}: {_place(f)}" for f in found)
    return f"{path}: holds annotations of several formats ({held}). Name one of these."


def _place(found: DetectedFormat) -> str:
    """The file of one part, the folder that holds several."""
    return os.path.commonpath([part.path for part in found.parts.values()])


def _unknown(path: Path) -> str:
    known = "COCO JSON, Pascal VOC XML, YOLO (data.yaml), DOTA text, labelme JSON, CSV, label masks"
    inside = [f"{item.name}/" for item in folders_in(path)]
    inside += [item.name for item in files_in(path, "") if item.is_file()]
    held = f" In it: {listed(inside, 8) or 'nothing'}." if path.is_dir() else ""
    return f"{path}: no annotations recognised; known are {known}.{held}"


def _neighbours(path: Path) -> str:
    if not path.parent.is_dir():
        return f" There is no folder {path.parent} either."
    return (
        f" In that folder: {listed(sorted(p.name for p in path.parent.iterdir()), 8) or 'nothing'}."
    )
