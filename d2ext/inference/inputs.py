"""Find the images and videos that arguments name, and name the files written for them."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath

from d2ext.data.formats.image_files import IMAGE_SUFFIXES
from d2ext.errors import DataError
from d2ext.inference import video

_WRITABLE = (".jpeg", ".jpg", ".png", ".webp")


def find_images(
    inputs: Sequence[str], output: Path | None, flag: str = "--input"
) -> dict[Path, PurePath]:
    """Find images only; see `find_inputs`."""
    return find_inputs(inputs, output, flag, IMAGE_SUFFIXES)


def find_inputs(
    inputs: Sequence[str],
    output: Path | None,
    flag: str = "--input",
    suffixes: Sequence[str] = (*IMAGE_SUFFIXES, *video.SUFFIXES),
) -> dict[Path, PurePath]:
    """Find images and videos, and assign each a path of its own in the output folder.

    Args:
        inputs: files of any suffix; folders, which are searched recursively by suffix; patterns
            such as `*.png`, for shells that don't expand them.
        output: files in this folder are ignored: an earlier call wrote them. None: nothing is.
        flag: name of the argument, for messages.
        suffixes: of files in folders.

    Returns:
        File -> path relative to `output`; files from a folder keep their path in the folder.

    Raises:
        DataError: an input does not exist, or all of them together hold no file.
    """
    found: dict[Path, PurePath] = {}
    taken: set[str] = set()
    for text in inputs:
        for file, name in _expand(text, flag, suffixes):
            if file not in found and not (output and _is_below(file, output)):
                found[file] = _unique(name, taken)
    if not found:
        elsewhere = f", other than what may lie in the output folder {output}" if output else ""
        raise DataError(
            f"{flag} {' '.join(inputs)}: nothing to read there{elsewhere}. Suffixes in folders: "
            f"{' '.join(suffixes)}."
        )
    return found


def _expand(text: str, flag: str, suffixes: Sequence[str]) -> Iterator[tuple[Path, PurePath]]:
    path = Path(text)
    if path.is_dir():
        yield from ((file, file.relative_to(path)) for file in _files_below(path, suffixes))
    elif os.path.lexists(path):
        yield path, PurePath(path.name)
    elif matches := sorted(glob.glob(str(path), recursive=True)):
        for match in matches:
            yield from _expand(match, flag, suffixes)
    else:
        raise DataError(_missing(text, flag))


def _files_below(folder: Path, suffixes: Sequence[str]) -> Iterable[Path]:
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in suffixes)
    hidden = (
        any(part.startswith(".") for part in file.relative_to(folder).parts) for file in files
    )
    return [file for file, skip in zip(files, hidden, strict=True) if not skip]


def _missing(text: str, flag: str) -> str:
    if text.isupper() or text.split(".")[0] in ("MODEL", "INPUT", "TEST", "DATASETS"):
        return (
            f"{flag} {text}: no such file. Config values come last, after another flag: "
            f"{flag} a.jpg --output out MODEL.WEIGHTS model_final.pth"
        )
    return f"{flag} {text}: no such file or folder, and no file matches it as a pattern."


def _is_below(file: Path, folder: Path) -> bool:
    return file.resolve().is_relative_to(folder.resolve())


def _unique(name: PurePath, taken: set[str]) -> PurePath:
    """Return `name`, numbered if it is taken; file systems may ignore case."""
    suffix = name.suffix if name.suffix.lower() in _WRITABLE else ".png"
    suffix = video.WRITTEN if name.suffix.lower() in video.SUFFIXES else suffix
    candidate, number = name.with_suffix(suffix), 1
    while candidate.as_posix().casefold() in taken:
        number += 1
        candidate = name.with_name(f"{name.stem}_{number}{suffix}")
    taken.add(candidate.as_posix().casefold())
    return candidate
