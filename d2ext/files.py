"""Atomic writing of files, bounded reading of JSON files, and the folder of caches."""

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from d2ext.errors import OutputError

CACHE_VARIABLE = "D2EXT_CACHE"
_MAX_SIZE = 4 << 30  # bytes; results of COCO's test set with masks take a tenth

_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "your quota is used up: free some space",
    errno.EFBIG: "files this large are not allowed: see `ulimit -f` and the file system's limit",
    errno.EROFS: "the file system is read-only: choose another output folder",
    errno.EACCES: "make the folder writable or choose another",
    errno.EPERM: "make the folder writable or choose another",
}


def cache_folder() -> Path:
    """Return the folder of caches: $D2EXT_CACHE, or ~/.cache/d2ext. Not created here."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "d2ext")


def make_folder(folder: Path, setting: str) -> None:
    """Create an output folder where it is missing, and check that files can be written to it.

    Args:
        setting: the flag or key that names the folder, for the message.
    Raises:
        OutputError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written to ({error.strerror}); {setting} FOLDER names another."
        ) from error


def check_output_file(path: Path, setting: str) -> None:
    """Check, before a command works for minutes, that a file can be written; nothing is created.

    Args:
        setting: the flag that names the file, for the message.
    Raises:
        OutputError: it is a folder or a device, or its place cannot be written to.
    """
    if os.path.isdir(path):
        raise OutputError(f"{path}: a folder; {setting} names a file to write.")
    _refuse_special(path)
    _check_place(path, path.parent, setting)


def check_output_folder(folder: Path, setting: str) -> None:
    """Check that a folder is there or can be created, as `check_output_file` does.

    Raises:
        OutputError: it is a file, or its place cannot be written to.
    """
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise OutputError(f"{folder}: a file; {setting} names a folder.")
    _check_place(folder, folder, setting)


def check_new_folder(folder: Path, setting: str) -> None:
    """Check as `check_output_folder` does that a folder is empty, or can be created.

    Raises:
        OutputError: there is something in it, or its place cannot be written to.
    """
    check_output_folder(folder, setting)
    if folder.is_dir() and any(folder.iterdir()):
        raise OutputError(
            f"{folder}: is there already and not empty; {setting} names a new folder."
        )


def _check_place(path: Path, folder: Path, setting: str) -> None:
    try:
        with suppress(FileNotFoundError):
            os.lstat(path)  # its name may be too long
        folder = next(each for each in (folder, *folder.parents) if each.exists())
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({folder}: {error.strerror}); {setting} names another one."
        ) from error


def _refuse_special(path: Path) -> None:
    """Refuse to replace a device or a pipe, such as /dev/null, by a file."""
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise OutputError(f"{path}: a device or a pipe; name a file.")


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary name beside `path`, renamed to `path` at the end.

    The temporary name keeps the suffix of `path`, by which writers choose their format. The folder
    is made where it is missing. If the block raises, nothing is left and `path` is as it was.

    Raises:
        OutputError: the disk is full, the place cannot be written to or is a device.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        _refuse_special(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "name another file")
        if error.errno not in _REMEDIES and not _is_about(error, temporary, path, *path.parents):
            raise
        raise OutputError(f"{path}: cannot be written ({error.strerror}); {remedy}.") from error
    finally:
        # On a read-only disk this fails, too, and would replace the error of the block.
        with suppress(OSError):
            temporary.unlink()


def _is_about(error: OSError, *paths: Path) -> bool:
    return isinstance(error.filename, str) and Path(error.filename) in paths


def read_regular(path: str | os.PathLike, size: int = -1) -> bytes:
    """Return the content of a regular file, or its first `size` bytes.

    Pipes and devices are refused before they are opened: reading them may never end.

    Raises:
        OSError: the file cannot be read, is none, or has more than 4 GiB.
        ValueError: the path has a NUL.
    """
    state = os.stat(path)
    if stat.S_ISDIR(state.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(state.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    wanted = state.st_size if size < 0 else min(size, state.st_size)
    if wanted > _MAX_SIZE:
        raise OSError(errno.EFBIG, f"larger than {_MAX_SIZE >> 30} GiB", str(path))
    with open(path, "rb") as file:
        return file.read(wanted)


def read_json(path: Path) -> Any:
    """Parse a JSON file that a run has written.

    Raises:
        OutputError: it is missing, no regular file, too large, no text, or no JSON.
    """
    try:
        return json.loads(read_regular(path).decode("utf-8"))
    except RecursionError as error:
        raise broken_results(path, "lists in lists too deep") from error
    except OSError as error:
        raise broken_results(path, error.strerror or str(error)) from error
    except ValueError as error:  # of the text, the JSON, or a number of thousands of digits
        raise broken_results(path, str(error)) from error


def broken_results(path: Path, reason: object) -> OutputError:
    """Return the error of a file that a run has written and that cannot be used."""
    return OutputError(f"{path}: cannot be used ({reason}). Evaluate the model again.")
