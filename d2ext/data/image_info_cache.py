"""Image info of many files, remembered on disk as long as the files do not change."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from d2ext.data.cache import file_state
from d2ext.data.image_info import THUMBNAIL, ImageInfo, read_image_info
from d2ext.data.parallel import map_files, start_calls
from d2ext.errors import OutputError
from d2ext.files import cache_folder, replacing

_VERSION = 2  # of the cached files: raise it when `ImageInfo` changes
_COLUMNS = ("problem", "detail", "size", "orientation", "format", "mode", "frames", "blank")

File = TypeVar("File", str, Path)

_kept: dict[str, ImageInfo] | None = None  # by the state of the file, within `infos_kept`
_started: list[tuple[list[str], Path, Iterator[ImageInfo]]] = []  # states, cache file and results


def read_image_infos(
    files: Sequence[File], *, fresh: bool = False, progress: str = ""
) -> dict[File, ImageInfo]:
    """Read the info of each image once, from the cache where these files did not change since.

    Args:
        fresh: read the files, even those that the cache has.
        progress: title of a progress bar on stderr; "" for no bar.
    """
    _finish_started()
    states = {file: file_state(file) for file in files}
    known = {} if fresh or _kept is None else _kept
    missing = {state: file for file, state in states.items() if state not in known}
    if missing:
        known = known | dict(zip(missing, _read(missing, fresh, progress), strict=True))
        if _kept is not None:
            _kept.update(known)
    return {file: known[state] for file, state in states.items()}


def start_reading(files: Sequence[str]) -> None:
    """Start to read image infos in worker processes; `read_image_infos` waits for them.

    Does nothing outside of `infos_kept` and `worker_pool`.
    """
    if _kept is None:
        return
    states = {file_state(file): file for file in files}
    path = _cache_path(states)
    if not path.is_file() and (infos := start_calls(read_image_info, list(states.values()))):
        _started.append((list(states), path, infos))


@contextmanager
def infos_kept() -> Iterator[None]:
    """Keep all infos in memory within the context: cleaning and check ask for the same images."""
    global _kept
    _kept = {}
    try:
        yield
    finally:
        _kept = None
        _started.clear()


def _finish_started() -> None:
    while _started:
        states, path, results = _started.pop()
        infos = list(results)
        _save(path, infos)
        if _kept is not None:
            _kept.update(zip(states, infos, strict=True))


def _read(files: Mapping[str, File], fresh: bool, progress: str) -> list[ImageInfo]:
    """Return the info of each file, by its state."""
    path = _cache_path(files)
    if not fresh and path.is_file():
        return _load(path)
    infos = list(map_files(read_image_info, list(files.values()), progress=progress).values())
    _save(path, infos)
    return infos


def _cache_path(states: Iterable[str]) -> Path:
    digest = hashlib.sha256("\n".join([str(_VERSION), *states]).encode("utf-8", "surrogateescape"))
    return cache_folder() / "image_info" / f"{digest.hexdigest()[:24]}.npz"


def _save(path: Path, infos: Sequence[ImageInfo]) -> None:
    empty = np.zeros((THUMBNAIL, THUMBNAIL), dtype=np.uint8)
    thumbnails = [info.thumbnail if info.thumbnail is not None else empty for info in infos]
    rows = [
        [*(getattr(info, key) for key in _COLUMNS), info.digest.hex(), info.thumbnail is not None]
        for info in infos
    ]
    # Without a cache the next run is slower, no more.
    with suppress(OSError, OutputError), replacing(path) as part:
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
