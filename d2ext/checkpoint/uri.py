"""The URI of weights: a path or address, with an optional checksum."""

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import d2ext.checkpoint.download  # noqa: F401  (resumable downloads)
from d2ext.errors import WeightsError
from detectron2.utils.file_io import PathManager

HEURISTICS = "?matching_heuristics=True"
SHA256 = "#sha256="
_CHUNK = 1 << 20


@dataclass(frozen=True)
class WeightsURI:
    """A path or address of weights, parsed.

    Args:
        path: a file, a URL, or another address that Detectron2's path manager knows.
        sha256: the checksum that the file must have, 64 hexadecimal digits; "" for any.
        heuristics: match names by their ends, as Detectron2 does.
    """

    path: str
    sha256: str = ""
    heuristics: bool = False

    @classmethod
    def parse(cls, text: str) -> "WeightsURI":
        """Parse "PATH?matching_heuristics=True#sha256=DIGITS"; only the path is needed.

        Raises:
            WeightsError: the checksum is malformed.
        """
        path, _, sha256 = text.partition(SHA256)
        if SHA256 in text and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
            raise WeightsError(f"{text}: {SHA256}... takes 64 hexadecimal digits.")
        return cls(path.removesuffix(HEURISTICS), sha256.lower(), path.endswith(HEURISTICS))


def local_file(text: str) -> Path:
    """Return the local file of a path or address; it is downloaded once, and checked each time.

    Args:
        text: a URI that `WeightsURI.parse` takes.
    Raises:
        WeightsError: the file is missing, cannot be fetched or has another checksum.
    """
    source = WeightsURI.parse(text)
    try:
        path = Path(PathManager.get_local_path(source.path))
    except (OSError, RuntimeError) as error:
        raise WeightsError(f"{source.path}: cannot be fetched: {error}") from error
    if not path.is_file():
        raise WeightsError(f"{path}: no such file of weights; see MODEL.WEIGHTS.")
    if source.sha256:
        _check(path, source.sha256)
    return path


def _check(path: Path, expected: str) -> None:
    facts = path.stat()
    found = _digest(path, facts.st_size, facts.st_mtime_ns)
    if found != expected:
        raise WeightsError(
            f"{path}: its SHA-256 is {found}, not {expected}. The file is damaged or another one: "
            "delete it and download it again, or correct the checksum."
        )


@lru_cache
def _digest(path: Path, size: int, modified: int) -> str:
    """Compute the SHA-256 of a file; size and time of change make the cache notice changes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
