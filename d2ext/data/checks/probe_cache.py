"""What image files are, remembered from one run to the next as long as they do not change."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from d2ext.data.cache import cache_folder
from d2ext.data.checks.probe import THUMBNAIL, Probe, probe
from d2ext.data.checks.probing import probe_all
from d2ext.errors import OutputError
from d2ext.files import replacing

_VERSION = 1  # of the files: raise it when `Probe` changes
_PLAIN = ("problem", "detail", "size", "orientation", "format", "mode", "frames", "blank")


def probe_images(
    paths: Sequence[Path], *, fresh: bool = False, progress: str = ""
) -> dict[Path, Probe]:
    """Probe every image once; those that this machine has seen are known by time and size.

    Args:
        fresh: look at the files themselves, whatever is known.
        progress: what a progress bar on stderr says; "" for none.
    """
    unique = list(dict.fromkeys(paths))
    place = cache_folder() / "probes" / f"{_state(unique)}.npz"
    if not fresh and place.is_file():
        return dict(zip(unique, _read(place), strict=True))
    found = probe_all(probe, unique, progress=progress)
    with suppress(OSError, OutputError):  # it only saves time
        _write(place, list(found.values()))
    return found


def _state(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256(str(_VERSION).encode())
    for path in paths:
        try:
            state = path.stat()
            digest.update(f"{path}\0{state.st_mtime_ns}\0{state.st_size}\n".encode())
        except OSError:
            digest.update(f"{path}\0\n".encode())
    return digest.hexdigest()[:24]


def _write(place: Path, probes: Sequence[Probe]) -> None:
    empty = np.zeros((THUMBNAIL, THUMBNAIL), dtype=np.uint8)
    pictures = [p.thumbnail if p.thumbnail is not None else empty for p in probes]
    rows = [
        [*(getattr(p, key) for key in _PLAIN), p.digest.hex(), p.thumbnail is not None]
        for p in probes
    ]
    with replacing(place) as part:
        np.savez(
            part,
            thumbnails=np.array(pictures, dtype=np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL),
            rows=np.frombuffer(json.dumps(rows).encode("ascii"), dtype=np.uint8),
        )


def _read(place: Path) -> list[Probe]:
    with np.load(place, allow_pickle=False) as stored:
        pictures, rows = stored["thumbnails"], json.loads(stored["rows"].tobytes())
    found = []
    for picture, (*values, digest, is_read) in zip(pictures, rows, strict=True):
        known = dict(zip(_PLAIN, values, strict=True))
        known["size"] = tuple(known["size"])
        one = Probe(**known, digest=bytes.fromhex(digest))
        found.append(replace(one, thumbnail=picture) if is_read else one)
    return found
