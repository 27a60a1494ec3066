"""Paths of data sets on the command line, and the entries of `DATASETS.REGISTER`."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from d2ext.data.catalog import DatasetSpec, register_dataset
from d2ext.data.formats import DatasetSplit, detect_format, load_splits
from d2ext.data.formats.archive import refuse_address
from d2ext.data.formats.common_task import agree_on_task
from d2ext.errors import ConfigError, DataError
from detectron2.config import CfgNode


def parse_dataset_flag(text: str) -> tuple[Path, Path | None]:
    """Split "ANNOTATIONS:IMAGES", as in "my/train.json:my/images"; a PATH alone stays whole.

    Both may hold colons, drive letters too: the colon after ".json" parts them, or else the one
    that leaves an existing file or folder to its left. None: no images were named.

    Raises:
        DataError: the text is empty or an address, or there is nothing on one side of its only
            colon.
    """
    refuse_address(text)
    places = [n for n, sign in enumerate(text) if sign == ":" and not _after_drive(text, n)]
    pairs = [(Path(text[:n]), Path(text[n + 1 :])) for n in places if text[:n] and text[n + 1 :]]
    pairs.sort(key=_unlikeliness)
    if text and (not places or Path(text).exists()):
        return Path(text), None
    if not pairs:
        raise DataError(
            f"{text!r}: expected PATH, a data set or its annotations, or ANNOTATIONS:IMAGES, for "
            "example my/train.json:my/images."
        )
    annotations, images = pairs[0]
    if annotations.is_dir() and images.is_file():
        raise DataError(
            f"{text!r}: the annotations come first: {images}:{annotations}, then the images."
        )
    return pairs[0]


def load_named_splits(path: str, val: Sequence[str]) -> dict[str, DatasetSplit]:
    """Read every split of `path`, or its training data alone where `val` names others.

    Raises:
        DataError: one of them cannot be read at all.
    """
    splits = _splits(path)
    first = "train" if "train" in splits else next(iter(splits))
    if not val:
        return {first or "train": splits.pop(first)} | splits
    found = {"train": splits[first]}
    for number, text in enumerate(val, start=1):
        others = _splits(text)
        chosen = next((name for name in ("val", "test", "") if name in others), None)
        if chosen is None and len(others) > 1:
            raise DataError(f"{text}: has the splits {', '.join(others)}, neither val nor test.")
        source = others[chosen] if chosen is not None else next(iter(others.values()))
        found["val" if number == 1 else f"val_{number}"] = source
    return dict(zip(found, agree_on_task(list(found.values())), strict=True))


def dataset_flag_spec(text: str, wanted: str) -> tuple[DatasetSpec, list[str]]:
    """Build the spec of a data set named on the command line, and list the splits that it has.

    Args:
        text: as `parse_dataset_flag` takes it.
        wanted: the split to use where there are several, "train", "val" or "test".
    Raises:
        DataError: the format is not recognised, or it has splits and not the one that is wanted.
    """
    path, images = parse_dataset_flag(text)
    known = detect_format(path, images)
    # A run may be resumed or evaluated from another folder.
    spec = DatasetSpec(_absolute(path), _absolute(images) if images else "")
    splits = [split for split in known.splits if split]
    if not splits:
        return spec, []
    if wanted not in splits:
        raise DataError(
            f"{path}: {known.format.name} with the splits {', '.join(splits)}, none for "
            f"--{wanted}. Name the folder or file of the one that you mean."
        )
    return replace(spec, split=wanted), splits


def register_datasets(cfg: CfgNode) -> None:
    """Register what `DATASETS.REGISTER` lists; see `register_specs`."""
    register_specs(cfg.DATASETS.REGISTER, cfg.DATASETS.CLASSES)


def register_specs(entries: Sequence[Mapping[str, Any]], classes: Sequence[str] = ()) -> None:
    """Register data sets. Reads nothing yet; registering the same again changes nothing.

    Args:
        entries: the fields of `d2ext.data.catalog.DatasetSpec` and "name".
        classes: of all; empty: as each data set has them.
    Raises:
        ConfigError: an entry has other fields.
        DataError: a name is taken by another data set.
    """
    for number, entry in enumerate(entries):
        try:
            register_dataset(*named_spec(entry, classes))
        except ConfigError as error:
            raise ConfigError(f"DATASETS.REGISTER[{number}]: {error}") from error


def named_spec(entry: Any, classes: Sequence[str] = ()) -> tuple[str, DatasetSpec]:
    """Return the name and spec of an entry of `DATASETS.REGISTER`.

    Raises:
        ConfigError: it has other fields.
    """
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        raise ConfigError(f"expected a mapping such as {{name: train, path: DATA}}, got {entry!r}.")
    return entry["name"], DatasetSpec.from_mapping(entry, classes)


def _splits(text: str) -> dict[str, DatasetSplit]:
    whole = Path(text).expanduser().exists()
    path, images = (Path(text), None) if whole else parse_dataset_flag(text)
    return load_splits(path, images=images)


def _absolute(path: Path) -> str:
    return os.path.abspath(path.expanduser())


def _after_drive(text: str, colon: int) -> bool:
    r"""Return true if the colon ends a drive letter, as in C:\data or D:/data."""
    starts_path = colon == 1 or (colon > 2 and text[colon - 2] == ":")
    return starts_path and text[colon - 1].isalpha() and text[colon + 1] in "\\/"


def _unlikeliness(pair: tuple[Path, Path]) -> tuple[bool, bool, bool]:
    annotations, images = pair
    return (not annotations.exists(), annotations.suffix.lower() != ".json", not images.is_dir())
