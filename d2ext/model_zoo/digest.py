"""SHA-256 checksums of files of weights."""

import hashlib
from functools import lru_cache
from pathlib import Path

from d2ext.errors import WeightsError

_CHUNK = 1 << 20


def check_digest(path: Path, expected: str) -> None:
    """Compare the SHA-256 of a file with its expected digits, or the first of them.

    Raises:
        WeightsError: they differ.
    """
    facts = path.stat()
    found = _digest(path, facts.st_size, facts.st_mtime_ns)
    if not found.startswith(expected):
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
