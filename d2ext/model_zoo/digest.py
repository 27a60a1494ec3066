"""Checksums of files of weights."""

import hashlib
from functools import lru_cache
from pathlib import Path

from d2ext.errors import WeightsError

_CHUNK = 1 << 20


def check_digest(path: Path, expected: str, algorithm: str = "SHA-256") -> None:
    """Compare the checksum of a file with its expected digits, or the first of them.

    Args:
        algorithm: "SHA-256" or "MD5".
    Raises:
        WeightsError: they differ.
    """
    facts = path.stat()
    found = _digest(path, algorithm, facts.st_size, facts.st_mtime_ns)
    if not found.startswith(expected):
        raise WeightsError(
            f"{path}: its {algorithm} is {found}, not {expected}. The file is damaged or another "
            "one: delete it and download it again, or correct the checksum."
        )


@lru_cache
def _digest(path: Path, algorithm: str, size: int, modified: int) -> str:
    """Compute the checksum of a file; size and time of change make the cache notice changes."""
    name = algorithm.lower().replace("-", "")
    digest = hashlib.new(name, usedforsecurity=False)  # MD5 finds damage, not forgery
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
