"""The cache of derived files: each file or folder is there complete or not at all."""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from d2ext.errors import OutputError
from d2ext.files import CACHE_VARIABLE, replacing


def cached_file(path: Path, write: Callable[[Path], None]) -> Path:
    """Return `path`, below the cache, written by `write` if it is not there yet.

    Raises:
        OutputError: the cache cannot be written.
    """
    if not path.exists():
        with _explaining(path), replacing(path) as part:
            write(part)
    return path


def cached_folder(path: Path, fill: Callable[[Path], None]) -> Path:
    """Return `path`, a folder below the cache, filled by `fill` if it is not there yet.

    Several processes may ask at once: each fills a folder of its own, the first to finish wins.

    Raises:
        OutputError: the cache cannot be written.
    """
    if path.exists():
        return path
    part = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    with _explaining(path):
        try:
            part.mkdir(parents=True)
            fill(part)
            _rename_unless_taken(part, path)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return path


def file_state(file: str | Path) -> str:
    """Return path, time and size of a file as text; a path alone where it is missing."""
    try:
        state = os.stat(file)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return f"{file}\0"
    return f"{file}\0{state.st_mtime_ns}\0{state.st_size}"


def _rename_unless_taken(part: Path, path: Path) -> None:
    try:
        part.rename(path)
    except OSError:
        if not path.exists():
            raise


@contextmanager
def _explaining(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, OutputError) as error:
        raise OutputError(
            f"{path}: the cache cannot be written ({error.__cause__ or error}). "
            f"Free some space, or set {CACHE_VARIABLE} to a folder that can be written."
        ) from error
