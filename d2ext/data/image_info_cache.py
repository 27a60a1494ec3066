"""Image info of many files, remembered on disk as long as the files do not change."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from d2ext.data.image_info import THUMBNAIL, ImageInfo, read_image_info
from d2ext.data.parallel import map_files
from d2ext.errors import OutputError
from d2ext.files import cache_folder, replacing

_VERSION = 1  # of the cached files: raise it when `ImageInfo` changes
_COLUMNS = ("problem", "detail", "size", "orientation", "format", "mode", "frames", "blank")

File = TypeVar("File", str, Path)

_kept: dict[str, list[ImageInfo]] | None = None  # by the state of the files, within `infos_kept`


def read_image_infos(
    files: Sequence[File], *, fresh: bool = False, progress: str = ""
) -> dict[File, ImageInfo]:
    """Read the info of each image once, from the cache where these files did not change since.

    Args:
        fresh: read the files, even those that the cache has.
        progress: title of a progress bar on stderr; "" for no bar.
    """
    unique = list(dict.fromkeys(files))
    state = _state(unique)
    if _kept is not None and state in _kept and not fresh:
        return dict(zip(unique, _kept[state], strict=True))
    cached = cache_folder() / "image_info" / f"{state}.npz"
    if not fresh and cached.is_file():
        found = dict(zip(unique, _load(cached), strict=True))
    else:
        found = map_files(read_image_info, unique, progress=progress)
        with suppress(OSError, OutputError):  # without a cache the next run is slower, no more
            _save(cached, list(found.values()))
    if _kept is not None:
        _kept[state] = list(found.values())
    return found


@contextmanager
def infos_kept() -> Iterator[None]:
    """Keep all infos in memory within the context: cleaning and check ask for the same images."""
    global _kept
    _kept = {}
    try:
        yield
    finally:
        _kept = None


def _state(files: Sequence[str] | Sequence[Path]) -> str:
    """Hash the paths, modification times and sizes of the files."""
    digest = hashlib.sha256(str(_VERSION).encode())
    for file in files:
        try:
            state = os.stat(file)
            digest.update(f"{file}\0{state.st_mtime_ns}\0{state.st_size}\n".encode())
        except OSError:
            digest.update(f"{file}\0\n".encode())
    return digest.hexdigest()[:24]


def _save(path: Path, infos: Sequence[ImageInfo]) -> None:
    empty = np.zeros((THUMBNAIL, THUMBNAIL), dtype=np.uint8)
    thumbnails = [info.thumbnail if info.thumbnail is not None else empty for info in infos]
    rows = [
        [*(getattr(info, key) for key in _COLUMNS), info.digest.hex(), info.thumbnail is not None]
        for info in infos
    ]
    with replacing(path) as part:
        np.savez(
            part,
            thumbnails=np.array(thumbnails, dtype=np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL),
            rows=np.frombuffer(json.dumps(rows).encode("ascii"), dtype=np.uint8),
        )


def _load(path: Path) -> list[ImageInfo]:
    with np.load(path, allow_pickle=False) as stored:
        thumbnails, rows = stored["thumbnails"], json.loads(stored["rows"].tobytes())
    return [_from_row(row, thumbnail) for row, thumbnail in zip(rows, thumbnails, strict=True)]


def _from_row(row: list, thumbnail: NDArray[np.uint8]) -> ImageInfo:
    *values, digest, has_thumbnail = row
    known = dict(zip(_COLUMNS, values, strict=True))
    known["size"] = tuple(known["size"])
    known["thumbnail"] = thumbnail if has_thumbnail else None
    return ImageInfo(**known, digest=bytes.fromhex(digest))
