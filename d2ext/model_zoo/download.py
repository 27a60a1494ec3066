"""Resumable downloads, for iopath's path manager and by themselves."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse
from urllib.request import Request, getproxies, proxy_bypass, urlopen

from iopath.common.file_io import HTTPURLHandler, file_lock
from tqdm import tqdm

from d2ext.errors import WeightsError
from d2ext.files import CACHE_VARIABLE, cache_folder

logger = logging.getLogger(__name__)

OFFLINE_VARIABLE = "D2EXT_OFFLINE"
ATTEMPTS = 3  # in a row without a new byte
TIMEOUT = 30  # seconds without a byte
CONNECT_TIMEOUT = 1.5  # seconds until a server's name is resolved and the server answers
_CHUNK = 1 << 20
_PORTS = {"http": 80, "https": 443}


class ResumingHandler(HTTPURLHandler):
    """iopath's handler of http and https, locks included, with resumable downloads."""

    def _get_supported_prefixes(self) -> list[str]:
        return ["http://", "https://"]

    def _get_local_path(
        self, path: str, force: bool = False, cache_dir: str | None = None, **kwargs: Any
    ) -> str:
        self._check_kwargs(kwargs)
        return str(downloaded(path, cache_dir, force=force))


def downloaded(url: str, cache_dir: str | None = None, *, force: bool = False) -> Path:
    """Return the file of `url` in the cache, downloaded if it is not there or if `force` is set.

    Raises:
        WeightsError: as `download`.
    """
    target = cached_path(url, cache_dir)
    if force or not target.is_file():
        with _locked(target):
            if force or not target.is_file():  # another process may have just finished
                download(url, target)
    return target


def cached_path(url: str, cache_dir: str | None = None) -> Path:
    """Return the place of a download in the cache, where it need not be yet.

    The cache is `cache_dir`, else Detectron2's $FVCORE_CACHE, else `weights` in d2ext's own.
    """
    chosen = cache_dir or os.environ.get("FVCORE_CACHE")
    folder = Path(chosen).expanduser() if chosen else cache_folder() / "weights"
    return folder / os.path.dirname(urlparse(url).path.lstrip("/")) / url.split("/")[-1]


def is_reachable(url: str) -> bool:
    """Return true if the server of `url` accepts connections within `CONNECT_TIMEOUT`.

    With D2EXT_OFFLINE=1 in the environment none does.
    """
    if os.environ.get(OFFLINE_VARIABLE) == "1":
        return False
    return _accepts_connections(*_server(url), CONNECT_TIMEOUT)


def check_reachable(url: str, target: Path) -> None:
    """Check that the server of `url` answers.

    Raises:
        WeightsError: it does not; says that the file may be put to `target`.
    """
    if not is_reachable(url):
        raise _failure(url, target, "no network, or the server does not answer")


def download(url: str, target: Path) -> None:
    """Download `url` to `target`, which appears when it is complete.

    Raises:
        WeightsError: the server cannot be reached or refuses, or `target` cannot be written. What
            has arrived stays in a file next to `target`, and another call resumes it.
    """
    check_reachable(url, target)
    logger.info("downloading %s to %s", url, target)
    part = _Part(target)
    failures = 0
    while failures < ATTEMPTS:
        had = part.size
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if part.go_on(url):
                part.finish()
                return
            reason = "the connection was cut"
        except HTTPError as error:
            raise _failure(url, target, f"{error.code} {error.reason}") from error
        except (OSError, HTTPException) as error:
            if isinstance(error, OSError) and error.filename is not None:  # of a file here
                raise _unwritable(target, error) from error
            reason = str(error.reason if isinstance(error, URLError) else error)
        failures = 0 if part.size > had else failures + 1
    raise _failure(url, target, reason)


def _unwritable(target: Path, error: OSError) -> WeightsError:
    return WeightsError(
        f"{target}: the cache cannot be written ({error.strerror}). Set {CACHE_VARIABLE} to a "
        "folder that can, or name a local copy of the file."
    )


def _failure(url: str, target: Path, reason: str) -> WeightsError:
    kept = " What has arrived is kept, and the next try resumes it." if _Part(target).size else ""
    return WeightsError(
        f"{url}: cannot be downloaded ({reason}).{kept} Without a network, put the file at "
        f"{target} ({CACHE_VARIABLE} moves the cache), or name a local copy."
    )


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Hold the lock of a download, so that of several processes one downloads.

    Raises:
        WeightsError: the cache cannot be written.
    """
    with ExitStack() as stack:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(file_lock(str(target)))
        except OSError as error:
            raise _unwritable(target, error) from error
        yield


def _server(url: str) -> tuple[str, int]:
    """Return host and port of the server, or proxy, that a request for `url` goes to."""
    parts = urlparse(url)
    proxy = getproxies().get(parts.scheme)
    if proxy and not proxy_bypass(parts.hostname or ""):
        parts = urlparse(proxy if "://" in proxy else f"http://{proxy}")
    return parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 80)


def _accepts_connections(host: str, port: int, seconds: float) -> bool:
    """Try to connect in a thread, since looking up a name has no timeout of its own."""
    connected: list[bool] = []

    def connect() -> None:
        try:
            with socket.create_connection((host, port), timeout=seconds):
                connected.append(True)
        except OSError:
            pass

    thread = Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(connected)


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
