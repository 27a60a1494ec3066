"""Data sets named on the command line or in `DATASETS.REGISTER`."""

from collections.abc import Sequence
from pathlib import Path

from d2ext.data.coco import register_coco
from d2ext.errors import ConfigError, DataError
from detectron2.config import CfgNode


def parse_dataset_flag(text: str) -> tuple[Path, Path]:
    """Split "ANNOTATIONS:IMAGES", as in "my/train.json:my/images".

    Both may hold colons, drive letters too: the colon after ".json" parts them, or else the one
    that leaves an existing file to its left.

    Raises:
        DataError: there is no colon with something on both sides.
    """
    places = [n for n, sign in enumerate(text) if sign == ":" and text[:n] and text[n + 1 :]]
    pairs = [(Path(text[:n]), Path(text[n + 1 :])) for n in places if not _after_drive(text, n)]
    pairs.sort(key=_unlikeliness)
    if not pairs:
        raise DataError(
            f"{text}: expected ANNOTATIONS:IMAGES, a COCO JSON file and the folder of its images, "
            "for example my/train.json:my/images."
        )
    return pairs[0]


def register_datasets(cfg: CfgNode) -> None:
    """Register what `DATASETS.REGISTER` lists; see `register_entries`."""
    register_entries(cfg.DATASETS.REGISTER)


def register_entries(entries: Sequence[Sequence[str]]) -> None:
    """Register COCO-format data sets: [name, annotations, image folder] each.

    Reads nothing yet. Registering the same again changes nothing.

    Raises:
        ConfigError: an entry is not three texts.
        DataError: a name is taken by another data set.
    """
    for number, entry in enumerate(entries):
        if not _is_entry(entry):
            raise ConfigError(
                f"DATASETS.REGISTER[{number}]: expected [name, annotations.json, image folder], "
                f"got {entry!r}."
            )
        register_coco(*entry)


def _after_drive(text: str, colon: int) -> bool:
    """Whether the colon ends a drive letter, as in C:\\data or D:/data."""
    starts_path = colon == 1 or (colon > 2 and text[colon - 2] == ":")
    return starts_path and text[colon - 1].isalpha() and text[colon + 1] in "\\/"


def _unlikeliness(pair: tuple[Path, Path]) -> tuple[bool, bool, bool]:
    annotations, images = pair
    return (not annotations.is_file(), annotations.suffix.lower() != ".json", not images.is_dir())


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, (list, tuple))
        and len(entry) == 3
        and all(isinstance(text, str) and text for text in entry)
    )
