"""Finding images and splits by their names, and reading the sizes of images."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image

from d2ext.data.formats.dataset_split import DatasetSplit
from d2ext.data.formats.text_files import read_text
from d2ext.data.issues import reading_issue
from d2ext.errors import DataError

# Those of photographs and scans that Pillow reads; drawings and documents are no images here.
IMAGE_SUFFIXES = (
    *(".apng", ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg"),
    *(".jpg", ".jpx", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif"),
    *(".tiff", ".webp"),
)
# What Pillow raises for files that are no images, or too large to be any.
# MemoryError: damaged files claim parts of gigabytes.
UNREADABLE_IMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    MemoryError,
    Image.DecompressionBombError,
)
_ALIASES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
_WORD = re.compile(rf"(?<![a-z])({'|'.join(sorted(_ALIASES, key=len, reverse=True))})(?![a-z])")
_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height


@dataclass(frozen=True)
class LabelFolder:
    """A split's folder with one label file per image, and where the images may be."""

    path: Path
    split: str
    image_folders: tuple[Path, ...]
    others: tuple[Path, ...] = ()  # folders of all splits, where one decision holds for all


def split_of(name: str) -> str:
    """Return the split that a name stands for: "valid" -> "val", "train2017" -> "train".

    "" where it names none or several ("trainval").
    """
    found = {_ALIASES[word] for word in _WORD.findall(name.lower())}
    return found.pop() if len(found) == 1 else ""


def without_split(name: str) -> str:
    """Return `name` without the word for a split: "Instances_train2017" -> "instances"."""
    return re.sub(rf"{_WORD.pattern}\d*", "", name.lower()).strip("_-. ")


def split_folders(folder: Path) -> dict[str, Path]:
    """Return the folders in `folder` that are named as splits: train, val, test."""
    by_name: dict[str, Path] = {}
    for path in folders_in(folder):
        split = _ALIASES.get(re.sub(r"[\d_-]+$", "", path.name.lower()), "")
        if split:
            by_name.setdefault(split, path)
    return {split: by_name[split] for split in ("train", "val", "test") if split in by_name}


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in `folder` by name, without hidden ones; [] if it is not a folder."""
    try:
        with os.scandir(folder) as entries:
            found = [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
    except OSError:
        return []
    return [folder / name for name in sorted(found)]


def files_in(folder: Path, *suffixes: str) -> list[Path]:
    """Return the regular files in `folder` with one of `suffixes`, in any case; no hidden ones."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    named = (n for n in names if not n.startswith(".") and n.lower().endswith(suffixes))
    return [folder / name for name in named if os.path.isfile(folder / name)]


def images_below(folder: Path) -> list[Path]:
    """Return the images in and below `folder`, sorted by path, without hidden files.

    Links are followed, but no folder is entered twice: links may lead in a circle.
    """
    found: list[Path] = []
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = (n for n in names if n.lower().endswith(IMAGE_SUFFIXES) and n[0] != ".")
        found += [Path(parent, name) for name in sorted(inside)]
    return found


def child(folder: Path, *names: str) -> Path | None:
    """Return the first of the subfolders `names` of `folder`, in upper or lower case."""
    by_name = {path.name.lower(): path for path in folders_in(folder)}
    return next((by_name[name.lower()] for name in names if name.lower() in by_name), None)


class ImageIndex:
    """Finds images of some folders by name, also without a suffix, with another, or in subfolders.

    Args:
        folders: looked through in this order, when first asked.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self.folders = list(dict.fromkeys(folders))
        self._by_name: dict[str, Path] | None = None
        self._by_stem: dict[str, Path] = {}

    def find(self, name: str) -> Path | None:
        """Return the image that an annotation names by file name, path or stem."""
        name = name.replace("\\", "/")
        for folder in self.folders:
            if name and (path := folder / name).suffix and os.path.isfile(path):
                return path
        if self._by_name is None:
            self._read()
        base = _composed(name.rpartition("/")[2])
        return (self._by_name or {}).get(base) or self._by_stem.get(stem(base).lower())

    def _read(self) -> None:
        self._by_name = {}
        for folder in self.folders:
            for path in images_below(folder):
                name = _composed(path.name)
                self._by_name.setdefault(name, path)
                self._by_stem.setdefault(stem(name).lower(), path)


def _composed(name: str) -> str:
    """Return a name in Unicode's form NFC; macOS and zip files made there have NFD."""
    return unicodedata.normalize("NFC", name)


def stem(name: str) -> str:
    """Return `name` without the suffix of an image; other dots are part of the name."""
    base, dot, suffix = name.rpartition(".")
    return base if dot and f".{suffix.lower()}" in IMAGE_SUFFIXES else name


def open_image(path: str | Path) -> Image.Image:
    """Open an image file, unless it is a pipe or a device, which may have no end.

    Raises:
        UNREADABLE_IMAGE: the file is none or no image.
    """
    if not os.path.isfile(path):
        raise OSError(f"{path}: not a regular file")
    return Image.open(path)


def image_size(path: str | Path) -> tuple[int, int] | None:
    """Return width and height in pixels of the image turned upright; None if it cannot be read."""
    try:
        with open_image(path) as image:
            width, height = image.size
            turned = image.getexif().get(ExifTags.Base.Orientation) in _TURNED
    except UNREADABLE_IMAGE:
        return None
    return (height, width) if turned else (width, height)


def read_lines(path: Path, encodings: Counter[str] | None = None) -> Iterator[tuple[int, str]]:
    """Return number, from 1, and text of every line that is not blank.

    Args:
        encodings: see `read_text`.
    Raises:
        DataError: the file cannot be read or is not text.
    """
    for number, line in enumerate(read_text(path, encodings).splitlines(), start=1):
        if line := line.strip():
            yield number, line


def lines_or_issue(path: Path, dataset: DatasetSplit, image: str) -> list[tuple[int, str]]:
    """Return `read_lines`, or add an issue: one bad file among many is no reason to stop."""
    try:
        return list(read_lines(path, dataset.encodings))
    except DataError as error:
        dataset.issues.append(
            reading_issue("file-unreadable", "unreadable labels", str(path), image, str(error))
        )
        return []
