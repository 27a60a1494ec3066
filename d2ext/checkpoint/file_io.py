"""Checkpoint IO: safe reading, without executing code, and atomic writing."""

import argparse
import collections
import importlib.util
import io
import os
import pickle
import re
import zipfile
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from d2ext.checkpoint.checksum import ChecksumError, check_crcs, is_undamaged
from d2ext.checkpoint.uri import local_file
from d2ext.errors import WeightsError
from d2ext.files import replacing

METADATA = ("config", "thing_classes", "stuff_classes", "images")
LAST = "last_checkpoint"  # the file that names the checkpoint to resume from
_MAX_NAME = 1000  # characters in it

_UNREADABLE = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, EOFError, OSError),
    *(ValueError, KeyError, IndexError, TypeError, AttributeError, ImportError),
)


def read_checkpoint(path: str | os.PathLike, *, mmap: bool = False) -> dict[str, Any]:
    """Read all content of a .pth, .pt, .safetensors or .pkl file, tensors on the CPU.

    Args:
        path: a local file.
        mmap: memory-map the tensors, which makes reading the metadata alone cheap; their checksums
            are not verified.
    Raises:
        WeightsError: the file is missing, truncated, damaged or no checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file of weights; see MODEL.WEIGHTS.")
    try:
        content = _READERS.get(path.suffix.partition("?")[0], _read_torch)(path, mmap)
    except _UNREADABLE as error:
        raise WeightsError(f"{path}: {_reason(error)}") from error
    if not isinstance(content, dict):
        raise WeightsError(
            f"{path}: holds a {type(content).__name__}, not a dictionary of weights."
        )
    return content


def write_checkpoint(path: str | os.PathLike, content: dict[str, Any]) -> None:
    """Write tensors, numbers, text, lists and dictionaries; `path` is replaced atomically.

    Raises:
        OutputError: the disk is full or the folder cannot be written to.
    """
    with replacing(path) as temporary, _Remembering(io.FileIO(temporary, "wb")) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            raise (file.error or error) from error
        # On disk before the rename: a power cut must not leave a complete name on partial data.
        file.flush()
        os.fsync(file.fileno())


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a small text file atomically.

    Raises:
        OutputError: the disk is full or the folder cannot be written to.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_metadata(path: str | os.PathLike) -> dict[str, Any]:
    """Read the metadata of a checkpoint: lists of text, and "config", YAML text.

    The lists are "thing_classes", "stuff_classes" and "images", a line per data set of the run.

    Args:
        path: a path or URI, as MODEL.WEIGHTS takes it.
    Raises:
        WeightsError: as `local_file` and `read_checkpoint`, or the metadata are of other types.
    """
    return checked_metadata(path, read_checkpoint(local_file(os.fspath(path)), mmap=True))


def checked_metadata(path: str | os.PathLike, content: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata among the content of a checkpoint.

    Raises:
        WeightsError: "thing_classes" is no list of names, or "config" is no text.
    """
    lists = [content[key] for key in METADATA[1:] if content.get(key) is not None]
    listed = all(isinstance(names, list) for names in lists)
    named = listed and all(isinstance(name, str) for names in lists for name in names)
    if not named or not isinstance(content.get("config", ""), str):
        raise WeightsError(
            f'{path}: "thing_classes" must be a list of names and "config" text, as d2ext writes '
            "them; take other weights, or only their tensors by tools/convert_weights.py."
        )
    return {key: content[key] for key in METADATA if key in content}


def resumable(folder: str | os.PathLike) -> list[Path]:
    """List the checkpoints of a run, newest first, from the one that `last_checkpoint` names.

    Raises:
        WeightsError: `last_checkpoint` is no text file, or names a file of another folder.
    """
    folder = Path(folder)
    files = filter(Path.is_file, folder.glob("model_[0-9]*.pth"))  # reading a FIFO would not end
    saved = sorted(files, key=_age, reverse=True)
    named = _named_last(folder)
    if named in saved:
        return saved[saved.index(named) :]
    return saved


def last_checkpoint(folder: str | os.PathLike) -> str:
    """Return the newest checkpoint in `folder` that is undamaged; "" if there is none."""
    return str(next(filter(is_undamaged, resumable(folder)), ""))


def check_file_name(name: object, source: Path) -> str:
    """Check that a name read from `source` is a plain file name, and return it.

    Raises:
        WeightsError: it has folders in it, so that it may lead out of the checkpoint's own.
    """
    if isinstance(name, str) and re.fullmatch(r"(?!\.{0,2}$)[^/\\:\0]+", name):
        return name
    raise WeightsError(
        f"{source}: names the checkpoint {str(name)[:200]!r}, which is no plain file name in its "
        "folder. d2ext writes no such names: do not resume from files that others have changed."
    )


def _named_last(folder: Path) -> Path | None:
    path = folder / LAST
    if not os.path.lexists(path):
        return None
    try:
        text = _read_text(path).strip()
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{path}: cannot be read ({error}); remove it to resume from the newest checkpoint."
        ) from error
    return folder / check_file_name(text, path) if text else None


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise OSError("not a regular file")
    with open(path, encoding="utf-8") as file:
        text = file.read(_MAX_NAME + 1)
    if len(text) > _MAX_NAME:
        raise ValueError(f"longer than {_MAX_NAME} characters")
    return text


def _age(path: Path) -> tuple[int, str]:
    return path.stat().st_mtime_ns, path.name


def _read_torch(path: Path, mmap: bool) -> Any:
    zipped = zipfile.is_zipfile(path)
    if zipped:
        check_crcs(path, tensors=not mmap)
    # What published checkpoints hold besides tensors; none of it runs code when it is unpickled.
    harmless = [argparse.Namespace, collections.defaultdict, *_numpy_classes()]
    with torch.serialization.safe_globals(harmless):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and zipped)


def _read_safetensors(path: Path, mmap: bool) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise RuntimeError(str(error)) from error


def _read_pickle(path: Path, mmap: bool) -> Any:
    with open(path, "rb") as file:
        return _bundled_arrays().load_arrays(file)


_READERS = {".safetensors": _read_safetensors, ".pkl": _read_pickle}


@cache
def _bundled_arrays() -> ModuleType:
    """Load the bundled runtime's unpickler from its file."""
    # By its path: in sys.modules the official package may have its name.
    path = Path(__file__).parents[1] / "runtime" / "detectron2" / "checkpoint" / "arrays.py"
    spec = importlib.util.spec_from_file_location("d2ext._arrays", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Remembering(io.BufferedWriter):
    """A file that keeps the error of a failed write, since torch.save drops it."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.error = error
            raise


def _numpy_classes() -> list[Any]:
    reconstruct, scalar = np.ones(1).__reduce__()[0], np.float64(0).__reduce__()[0]
    scalars = [type(np.dtype(code)) for code in "?bBhHiIqQefd"]
    old = [(reconstruct, "numpy.core.multiarray._reconstruct")]  # before NumPy 2
    old += [(scalar, "numpy.core.multiarray.scalar")]
    return [np.ndarray, np.dtype, reconstruct, scalar, *scalars, *old]


def _reason(error: BaseException) -> str:
    asked = re.search(r"(?:GLOBAL:?|refers to) ([\w.]+)", str(error))  # PyTorch's words, and ours
    if isinstance(error, pickle.UnpicklingError) and asked:
        return (
            f"not loaded: it asks for {asked[1]}, which could run code; only tensors, arrays, "
            "numbers and text are read."
        )
    if isinstance(error, ChecksumError):
        return f"damaged ({error}); download or train it again."
    return "truncated or no checkpoint; download or train it again."
