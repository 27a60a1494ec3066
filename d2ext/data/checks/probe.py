"""What one image file is: read once, decoded at a reduced size."""

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

THUMBNAIL = 16  # side of the grey picture that duplicates are found with

_ORIENTATION = 0x0112  # the EXIF tag
_DECODED = 4 * THUMBNAIL  # JPEGs are decoded at the smallest of 1/1, 1/2, 1/4, 1/8 above this


@dataclass(frozen=True, slots=True)
class Probe:
    """An image file.

    Args:
        problem: the code of what keeps it from being read, "" if nothing does.
        detail: why, in the decoder's words.
        size: width and height in pixels as stored, before EXIF turns it; (0, 0) if not known.
        orientation: EXIF's, 1 to 8; 1 is upright.
        format: as Pillow calls it, "JPEG".
        mode: as Pillow calls it, "RGB".
        frames: pictures in the file.
        blank: every pixel has the same colour.
        digest: of the file's bytes.
        thumbnail: (THUMBNAIL, THUMBNAIL) uint8 grey, upright; None if it cannot be read.
    """

    problem: str = ""
    detail: str = ""
    size: tuple[int, int] = (0, 0)
    orientation: int = 1
    format: str = ""
    mode: str = ""
    frames: int = 1
    blank: bool = False
    digest: bytes = b""
    thumbnail: NDArray[np.uint8] | None = None

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height in pixels after EXIF turned it, as training sees it."""
        return self.size[::-1] if self.orientation in (5, 6, 7, 8) else self.size


def probe(path: Path) -> Probe:
    """Look at a file; whatever is wrong with it is in the result, nothing is raised.

    A JPEG is decoded at an eighth of its size: libjpeg still reads all of its data, so that it
    fails where full decoding would.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Probe("image-missing", "no such file")
    except OSError as error:
        return Probe("image-unreadable", error.strerror or str(error))
    if not content:
        return Probe("image-empty", "0 bytes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of odd EXIF and large pictures
        return _of_content(content)


def _of_content(content: bytes) -> Probe:
    try:
        image = Image.open(io.BytesIO(content))
    except Image.DecompressionBombError:
        return Probe("image-huge", f"over {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels")
    except UnidentifiedImageError:
        return Probe("image-unreadable", f"no image: {_kind_of(content)}")
    except Exception as error:  # decoders raise what they like
        return Probe("image-unreadable", _reason(error))
    return _decoded(content, image)


def _decoded(content: bytes, image: Image.Image) -> Probe:
    known: dict[str, Any] = {
        "size": image.size,
        "orientation": _orientation_of(image),
        "format": image.format or "",
        "mode": image.mode,
        "frames": getattr(image, "n_frames", 1) if image.format != "MPO" else 1,
        "digest": hashlib.blake2b(content, digest_size=16).digest(),
    }
    try:
        image.draft("L", (_DECODED, _DECODED))
        image.load()
        blank = _is_blank(image)
        thumbnail = _thumbnail(image, known["orientation"])
    except Exception as error:
        return Probe("image-truncated", _reason(error), **known)
    return Probe(blank=blank, thumbnail=thumbnail, **known)


def _orientation_of(image: Image.Image) -> int:
    try:
        value: Any = image.getexif().get(_ORIENTATION)
    except Exception:  # malformed EXIF does not make the picture unreadable
        return 1
    return int(value) if value in range(2, 9) else 1


def _is_blank(image: Image.Image) -> bool:
    ranges = image.getextrema()
    pairs = ranges if isinstance(ranges[0], tuple) else (ranges,)
    return all(low == high for low, high in pairs)


def _thumbnail(image: Image.Image, orientation: int) -> NDArray[np.uint8]:
    small = _grey(image).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    small.getexif()[_ORIENTATION] = orientation
    return np.asarray(ImageOps.exif_transpose(small))


def _grey(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image, dtype=np.float64)
        span = np.ptp(values) or 1.0
        return Image.fromarray(((values - values.min()) * (255 / span)).astype(np.uint8))
    return image.convert("L")


def _kind_of(content: bytes) -> str:
    start = content[:16].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"{")):
        return "a web page or other text, as a failed download leaves"
    if content.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS: run `git lfs pull`"
    if not any(content[:4096]):
        return "it starts with zeros, as a failed copy leaves"
    return f"it starts with {content[:8]!r}"


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
