"""Image info: what an image or label image is, from one read of its file."""

import hashlib
import io
import os
import warnings
from bisect import bisect
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from d2ext.data.image_reading import is_deep, scale_to_8_bits
from d2ext.data.jpeg_header import read_jpeg_header
from d2ext.files import read_regular

THUMBNAIL = 16  # side of the grey thumbnail that near-duplicates are found by, in pixels

_ORIENTATION = 0x0112  # the EXIF tag
_DECODED = 4 * THUMBNAIL  # JPEGs are decoded at the smallest of 1/1, 1/2, 1/4, 1/8 above this
_SCALES = (0, 2, 4, 8)  # least scale of a JPEG for each of the next
_SCALED = (
    cv2.IMREAD_GRAYSCALE,
    cv2.IMREAD_REDUCED_GRAYSCALE_2,
    cv2.IMREAD_REDUCED_GRAYSCALE_4,
    cv2.IMREAD_REDUCED_GRAYSCALE_8,
)
_LABEL_MODES = ("L", "P", "1", "I", "I;16")  # Pillow's modes with one number per pixel


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What is known of an image file.

    Args:
        problem: the code of the issue that keeps it from being read, "" for none.
        detail: the reason, in the decoder's words.
        size: width and height in pixels as stored, before EXIF turns it; (0, 0) if not known.
        orientation: of EXIF, 1 to 8; 1 is upright.
        format: Pillow's name of it, such as "JPEG".
        mode: Pillow's name of it, such as "RGB".
        frames: number of pictures in the file.
        blank: every pixel has the same colour.
        digest: hash of the file's bytes.
        thumbnail: (THUMBNAIL, THUMBNAIL) uint8, grey and upright; None if it cannot be read.
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
        """Width and height in pixels after EXIF turned the image, as training sees it."""
        return self.size[::-1] if self.orientation in (5, 6, 7, 8) else self.size

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        # Workers send millions of these; the way of dataclasses takes twice as long.
        return ImageInfo, tuple(getattr(self, name) for name in self.__slots__)


@dataclass(frozen=True, slots=True)
class LabelInfo:
    """What is known of a label image, which has the class index of each pixel.

    Args:
        problem: the code of the issue that keeps it from being used, "" for none.
        detail: the reason.
        size: width and height in pixels.
        values: those that occur, ascending.
        counts: number of pixels of each value.
    """

    problem: str = ""
    detail: str = ""
    size: tuple[int, int] = (0, 0)
    values: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()


def read_image_info(path: str | os.PathLike) -> ImageInfo:
    """Read the info of an image file; nothing is raised, problems are part of the info.

    A JPEG is decoded at an eighth of its size. libjpeg still reads all of its data, so this fails
    where full decoding would.
    """
    try:
        content = read_regular(path)
    except FileNotFoundError:
        return ImageInfo("image-missing", "no such file")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        return ImageInfo("image-unreadable", getattr(error, "strerror", "") or str(error))
    if not content:
        return ImageInfo("image-empty", "0 bytes")
    if (info := _decode_plain_jpeg(content)) is not None:
        return info
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd EXIF data and of large pictures
        return _parse(content)


def read_label_info(path: str | os.PathLike) -> LabelInfo:
    """Read a label image and count its values; nothing is raised, problems are part of the info."""
    try:
        with Image.open(io.BytesIO(read_regular(path))) as image:
            if image.mode not in _LABEL_MODES:
                return LabelInfo("labels-channels", f"Pillow's mode {image.mode}", image.size)
            pixels = np.asarray(image)
    except FileNotFoundError:
        return LabelInfo("labels-missing", "no such file")
    except Exception as error:  # decoders raise errors of any type
        return LabelInfo("labels-missing", _reason(error))
    values, counts = np.unique(pixels, return_counts=True)
    return LabelInfo("", "", image.size, tuple(values.tolist()), tuple(counts.tolist()))


def _decode_plain_jpeg(content: bytes) -> ImageInfo | None:
    """Decode with OpenCV, several times faster than Pillow; None where Pillow is to look at it."""
    header = read_jpeg_header(content)
    most = Image.MAX_IMAGE_PIXELS
    if header is None or (most and header.size[0] * header.size[1] > most):
        return None
    flags = _SCALED[bisect(_SCALES, min(header.size) // _DECODED) - 1]
    try:
        grey = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:
        return None
    if grey is None:
        return None
    thumbnail = _resize(grey)
    # A thumbnail of two greys has them from an image of two; only few others need the long look.
    flat = len(set(thumbnail.tobytes())) == 1
    return ImageInfo(
        size=header.size,
        format="JPEG",
        mode=header.mode,
        blank=flat and bool(grey.min() == grey.max()),
        digest=_digest(content),
        thumbnail=thumbnail,
    )


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _resize(grey: NDArray[Any]) -> NDArray[np.uint8]:
    small = cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return small.astype(np.uint8, copy=False)


def _parse(content: bytes) -> ImageInfo:
    try:
        image = Image.open(io.BytesIO(content))
    except Image.DecompressionBombError:
        return ImageInfo("image-huge", f"over {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels")
    except UnidentifiedImageError:
        return ImageInfo("image-unreadable", f"no image: {_guess_content(content)}")
    except Exception as error:  # decoders raise errors of any type
        return ImageInfo("image-unreadable", _reason(error))
    return _decode(content, image)


def _decode(content: bytes, image: Image.Image) -> ImageInfo:
    known: dict[str, Any] = {
        "size": image.size,
        "orientation": _read_orientation(image),
        "format": image.format or "",
        "mode": image.mode,
        # An MPO file is a JPEG with previews or a second view; training reads the first picture.
        "frames": getattr(image, "n_frames", 1) if image.format != "MPO" else 1,
        "digest": _digest(content),
    }
    try:
        image.draft("L", (_DECODED, _DECODED))
        image.load()
        blank = _is_blank(image)
        thumbnail = _make_thumbnail(image, known["orientation"])
    except Exception as error:
        return ImageInfo("image-truncated", _reason(error), **known)
    return ImageInfo(blank=blank, thumbnail=thumbnail, **known)


def _read_orientation(image: Image.Image) -> int:
    # Asking a JPEG for EXIF data that it has not costs as much as opening it.
    if image.format == "JPEG" and image.info.keys().isdisjoint(("exif", "xmp")):
        return 1
    try:
        value: Any = image.getexif().get(_ORIENTATION)
    except Exception:  # malformed EXIF does not make the picture unreadable
        return 1
    return int(value) if value in range(2, 9) else 1


def _is_blank(image: Image.Image) -> bool:
    ranges = image.getextrema()
    pairs = ranges if isinstance(ranges[0], tuple) else (ranges,)
    return all(low == high for low, high in pairs)


def _make_thumbnail(image: Image.Image, orientation: int) -> NDArray[np.uint8]:
    small = _resize(_to_grey(image))
    if orientation != 1:
        turned = Image.fromarray(small)
        turned.getexif()[_ORIENTATION] = orientation
        small = np.array(ImageOps.exif_transpose(turned))
    return small


def _to_grey(image: Image.Image) -> NDArray[np.uint8]:
    if is_deep(image.mode):
        return scale_to_8_bits(np.asarray(image))
    return np.asarray(image if image.mode == "L" else image.convert("L"), dtype=np.uint8)


def _guess_content(content: bytes) -> str:
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
