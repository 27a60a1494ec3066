"""Resumable downloads for Detectron2's path manager."""

import logging
import os
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse
from urllib.request import Request, urlopen

from iopath.common.file_io import HTTPURLHandler, file_lock, get_cache_dir
from tqdm import tqdm

from d2ext.errors import WeightsError
from detectron2.utils.file_io import PathManager

logger = logging.getLogger(__name__)

ATTEMPTS = 3  # in a row without a new byte
TIMEOUT = 30  # seconds without a byte
_CHUNK = 1 << 20


class ResumingHandler(HTTPURLHandler):
    """iopath's handler of http and https, cache and locks included, with resumable downloads."""

    def _get_supported_prefixes(self) -> list[str]:
        return ["http://", "https://"]

    def _get_local_path(
        self, path: str, force: bool = False, cache_dir: str | None = None, **kwargs: Any
    ) -> str:
        self._check_kwargs(kwargs)
        folder = os.path.dirname(urlparse(path).path.lstrip("/"))
        target = Path(get_cache_dir(cache_dir), folder, path.split("/")[-1])
        with file_lock(str(target)):
            if force or not target.is_file():
                download(path, target)
        return str(target)


PathManager.register_handler(ResumingHandler(), allow_override=True)


def download(url: str, target: Path) -> None:
    """Download `url` to `target`, which appears when it is complete.

    Raises:
        WeightsError: the server cannot be reached or refuses. What has arrived stays in a file
            next to `target`, and another call resumes it.
    """
    logger.info("downloading %s to %s", url, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(target)
    failures = 0
    while failures < ATTEMPTS:
        had = part.size
        try:
            if part.go_on(url):
                part.finish()
                return
            reason = "the connection was cut"
        except HTTPError as error:
            raise _failure(url, target, f"{error.code} {error.reason}") from error
        except (OSError, HTTPException) as error:
            reason = str(error.reason if isinstance(error, URLError) else error)
        failures = 0 if part.size > had else failures + 1
    raise _failure(url, target, reason)


def _failure(url: str, target: Path, reason: str) -> WeightsError:
    return WeightsError(
        f"{url}: cannot be downloaded ({reason}). The part that has arrived is kept, and the next "
        f"try resumes it. Without a network, put the file at {target}, or name a local copy."
    )


class _Part:
    """The part of a file that has arrived, and the version of the file that it belongs to."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f"{target.name}.part")
        self.version = target.with_name(f"{target.name}.part.version")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def finish(self) -> None:
        os.replace(self.path, self.target)
        self.version.unlink(missing_ok=True)

    def go_on(self, url: str) -> bool:
        """Download the rest; return True when the file is complete."""
        try:
            with urlopen(self._request(url), timeout=TIMEOUT) as response:
                return self._receive(response)
        except HTTPError as error:
            if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            if error.headers.get("Content-Range") == f"bytes */{self.size}":
                return True  # cut off after the last byte
            self.path.unlink(missing_ok=True)
            return False

    def _request(self, url: str) -> Request:
        headers = {"User-Agent": "d2ext", "Accept-Encoding": "identity"}
        if self.size:
            # If-Range: a file that has changed on the server comes whole, not as a mixed rest.
            headers["Range"] = f"bytes={self.size}-"
            if self.version.exists():
                headers["If-Range"] = self.version.read_text(encoding="utf-8")
        return Request(url, headers=headers)

    def _receive(self, response: HTTPResponse) -> bool:
        goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {self.size}-")
        if response.status == HTTPStatus.PARTIAL_CONTENT and not goes_on:
            self.path.unlink()
            return False
        had = self.size if goes_on else 0
        self._remember_version(response)
        length = response.headers.get("Content-Length")
        total = None if length is None else had + int(length)
        with (
            open(self.path, "ab" if goes_on else "wb") as file,
            tqdm(total=total, initial=had, unit="B", unit_scale=True, disable=None) as bar,
        ):
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
        return total in (None, self.size)

    def _remember_version(self, response: HTTPResponse) -> None:
        tag = response.headers.get("ETag", "")
        version = response.headers.get("Last-Modified") if tag.startswith("W/") or not tag else tag
        if version:
            self.version.write_text(version, encoding="utf-8")
        else:
            self.version.unlink(missing_ok=True)
