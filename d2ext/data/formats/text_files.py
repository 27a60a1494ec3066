"""Text encodings of annotation files: declared by a mark or by the file, or else guessed.

Tools on Windows save labels in the encoding of the machine. What is not UTF-8 is decoded and said
in a note of the data set, so that a wrong guess is seen in the names of its classes.
"""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from d2ext.errors import DataError
from d2ext.files import read_regular

UTF8 = "UTF-8"
_MARKS = (
    (codecs.BOM_UTF8, UTF8),
    (codecs.BOM_UTF32_LE, "UTF-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_GUESSED = ("gb18030", "cp1252")
_HIGH = re.compile(rb"[\x80-\xff]+")
_SHARE = 0.8  # of the runs of high bytes that are pairs, from which a text is Chinese


def decode(content: bytes, declared: str = "", *, partial: bool = False) -> tuple[str, str]:
    """Decode a text file.

    Args:
        content: of the file.
        declared: an encoding that the file names; it counts unless it does not fit.
        partial: the content may end within a character.
    Returns:
        The text, without a mark, and the name of its encoding.
    Raises:
        UnicodeDecodeError: it has none of the encodings that are known.
    """
    for mark, name in _MARKS:
        if content.startswith(mark):
            return _decode(content, name, partial).removeprefix("\ufeff"), name
    if content[:2].count(0) == 1 and content[:4].count(0) == 2:  # ASCII in two bytes each
        name = "UTF-16-LE" if content[1] == 0 else "UTF-16-BE"
        return _decode(content, name, partial), name
    for name in _candidates(content, declared):
        try:
            return _decode(content, name, partial), name
        except (UnicodeDecodeError, LookupError):
            continue
    return _decode(content, UTF8, partial), UTF8  # raises


def read_text(path: Path, encodings: Counter[str] | None = None, *, head: int = -1) -> str:
    """Read a text file of any encoding.

    Args:
        path: of the file.
        encodings: counts the files that are not UTF-8, by encoding.
        head: number of bytes to read; -1: all.
    Raises:
        DataError: the file cannot be read or decoded.
    """
    try:
        content = read_regular(path, head)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({reason}).") from error
    return decode_file(path, content, encodings, partial=head >= 0)


def head_of(path: Path, size: int) -> str:
    """Return the first `size` bytes of a file as text, to detect its format; or ""."""
    try:
        return read_text(path, head=size)
    except DataError:
        return ""


def decode_file(
    path: Path,
    content: bytes,
    encodings: Counter[str] | None = None,
    *,
    declared: str = "",
    partial: bool = False,
) -> str:
    """Decode the content of a file; see `decode` and `read_text`.

    Raises:
        DataError: it has none of the encodings that are known.
    """
    try:
        text, encoding = decode(content, declared, partial=partial)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: not UTF-8 text. Save the file as UTF-8.") from error
    if encodings is not None and encoding.upper() not in (UTF8, "UTF8", "ASCII"):
        encodings[encoding] += 1
    return text


def table_rows(path: Path, text: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a CSV file with a header.

    Raises:
        DataError: it is no CSV, or a field is large beyond any use.
    """
    with csv_errors(path):
        yield from csv.DictReader(io.StringIO(text))


@contextmanager
def csv_errors(path: Path) -> Iterator[None]:
    """Name the file in errors of Python's csv, which are no OSError or ValueError."""
    try:
        yield
    except csv.Error as error:
        raise DataError(f"{path}: cannot be read as a table ({error}).") from error


def encoding_notes(encodings: Counter[str]) -> list[str]:
    """Return a line for each encoding that files were read as instead of UTF-8."""
    return [
        f"no UTF-8: {count} {'file was' if count == 1 else 'files were'} read as {name}; "
        "if names look wrong, save as UTF-8"
        for name, count in encodings.items()
    ]


def _decode(content: bytes, encoding: str, partial: bool) -> str:
    return codecs.getincrementaldecoder(encoding)().decode(content, final=not partial)


def _candidates(content: bytes, declared: str) -> Iterator[str]:
    yield from filter(None, (declared, UTF8))
    yield from _GUESSED if _looks_chinese(content) else _GUESSED[::-1]


def _looks_chinese(content: bytes) -> bool:
    """Return true if the bytes above 127 come in pairs, as in GB2312, and not between letters.

    Letters with accents, as cp1252 has them, stand alone and within words.
    """
    runs = list(_HIGH.finditer(content))
    pairs = [run for run in runs if len(run[0]) % 2 == 0 and min(run[0]) >= 0xA1]
    words = [run for run in pairs if len(run[0]) > 2 or not _touches_letter(content, run)]
    return bool(runs) and len(words) >= _SHARE * len(runs)


def _touches_letter(content: bytes, run: re.Match[bytes]) -> bool:
    beside = content[max(0, run.start() - 1) : run.start()] + content[run.end() : run.end() + 1]
    return any(chr(byte).isalpha() for byte in beside)
