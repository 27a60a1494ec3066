"""Headers of plain JPEG files, which most images of data sets are.

Source: ITU-T T.81, annex B: segments of a marker and a length precede the compressed data.
"""

from struct import unpack_from
from typing import NamedTuple

_START, _END = b"\xff\xd8", b"\xff\xd9"
_SCAN = 0xDA
_FRAMES = (0xC0, 0xC2)  # baseline and progressive
# Quantisation and Huffman tables, restart interval, JFIF, comment: none changes what is decoded.
_PLAIN = (0xDB, 0xC4, 0xDD, 0xE0, 0xFE)
_MODES = {1: "L", 3: "RGB"}  # by the number of components


class JpegHeader(NamedTuple):
    """Size in pixels, width first, and Pillow's mode of a JPEG file."""

    size: tuple[int, int]
    mode: str


def read_jpeg_header(content: bytes) -> JpegHeader | None:
    """Parse the header of a plain JPEG file.

    Returns:
        None for a file that is cut short or no JPEG, and for one that needs a closer look: with
        EXIF data, several pictures, Adobe's colours or more than 8 bits.
    """
    if not (content.startswith(_START) and content.endswith(_END)):
        return None
    found, place = None, len(_START)
    while place + 10 <= len(content):
        prefix, kind, length = unpack_from(">BBH", content, place)
        if prefix != 0xFF or kind == _SCAN:
            return found if kind == _SCAN else None
        if kind in _FRAMES:
            precision, height, width, components = unpack_from(">BHHB", content, place + 4)
            if found or precision != 8 or not width * height or components not in _MODES:
                return None
            found = JpegHeader((width, height), _MODES[components])
        elif kind not in _PLAIN:
            return None
        place += 2 + length
    return None
