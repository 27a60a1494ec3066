"""Data sets in a zip file: unpacked into the cache, and spoken of by the name of the file."""

import hashlib
import lzma
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from d2ext.data.cache import cached_folder
from d2ext.data.formats.image_files import files_in, folders_in
from d2ext.data.formats.text_files import decode
from d2ext.errors import DataError
from d2ext.files import cache_folder

_OTHERS = (".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz", ".zst")
_ADDRESS = re.compile(r"^(https?|ftp|s3|gs|hdfs)://?", re.IGNORECASE)
_UTF8 = 0x800  # flag of a zip file's entry: its name is UTF-8
# What zipfile and its decompressors raise of damaged files; they have no class in common.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)

_unpacked: dict[str, str] = {}  # folder in the cache -> zip file that the user named


def refuse_address(text: str) -> None:
    """Check that a data set is a path, no address.

    Raises:
        DataError: it is an address.
    """
    if _ADDRESS.match(text):
        raise DataError(
            f"{text}: data sets are read from disk, not from an address. Download it and name the "
            "file or folder, for example: curl -LO ADDRESS, then --train my/data.zip."
        )


def unpacked(path: Path) -> Path:
    """Return the folder in the cache with the content of a zip file; other paths as they are.

    Raises:
        DataError: the zip file is broken, encrypted or larger than the disk; or it is an archive
            of another kind.
        OutputError: the cache cannot be written.
    """
    if not path.is_file():
        return path
    if path.suffix.lower() in _OTHERS:
        raise DataError(f"{path}: of archives only zip is read. Unpack it and name the folder.")
    if path.suffix.lower() != ".zip":
        return path
    state = path.stat()
    key = f"{path.resolve()}\0{state.st_mtime_ns}\0{state.st_size}"
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    folder = cache_folder() / "unpacked" / f"{path.stem}-{digest}"
    try:
        cached_folder(folder, lambda part: _extract(path, part))
    except _DAMAGE as error:
        raise DataError(f"{path}: the zip file cannot be unpacked ({error}).") from error
    _unpacked[str(folder)] = str(path)
    return _innermost(folder)


def with_user_paths(text: str) -> str:
    """Replace folders of the cache by the zip files that they were unpacked from."""
    for folder, path in _unpacked.items():
        text = text.replace(folder, path)
    return text


@contextmanager
def naming_user_paths() -> Iterator[None]:
    """Let a DataError within the context name the user's zip file in place of the cache."""
    try:
        yield
    except DataError as error:
        if (text := with_user_paths(str(error))) != str(error):
            raise DataError(text) from error
        raise


def _extract(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        size = sum(entry.file_size for entry in entries)
        free = shutil.disk_usage(folder).free
        if size > free:
            raise DataError(
                f"{path}: holds {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free in {folder}. "
                "Unpack it elsewhere and name the folder."
            )
        for entry in entries:
            if parts := _parts(entry):
                target = folder.joinpath(*parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                _decompress(archive, entry, target)


def _decompress(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    with archive.open(entry) as source, target.open("wb") as copy:
        try:
            shutil.copyfileobj(source, copy)
        except OSError as error:
            if error.errno is None:  # of bz2, which has no class for a damaged stream
                raise zipfile.BadZipFile(str(error)) from error
            raise


def _parts(entry: zipfile.ZipInfo) -> list[str]:
    """Return the folders and the name of an entry, below the folder that is written to.

    Names without the flag are read as cp437 by the standard, and mean the machine's encoding.
    """
    name = entry.filename
    if not entry.flag_bits & _UTF8 and not name.isascii():
        name = decode(name.encode("cp437", "replace"))[0]
    parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".", "..")]
    hidden = any(part == "__MACOSX" or part.startswith("._") for part in parts)
    return [] if hidden else [part.replace(":", "_").replace("\0", "") for part in parts]


def _innermost(folder: Path) -> Path:
    """Return the first folder that holds something else than one folder."""
    inside = folders_in(folder)
    if len(inside) != 1 or any(file.is_file() for file in files_in(folder, "")):
        return folder
    return _innermost(inside[0])
