"""Sizes of the images of data sets that do not state them, as some of Detectron2's own."""

from typing import Any

from PIL import Image

from d2ext.errors import DataError

_ORIENTATION = 0x0112  # the EXIF tag
_TURNED = (5, 6, 7, 8)  # its values of images that are stored with height and width swapped

_known: dict[str, tuple[int, int]] = {}


def fill_in_sizes(dicts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Set "width" and "height" in Detectron2's dicts that lack them, in place; return `dicts`.

    The headers of the image files tell the sizes; each is read once per process.

    Raises:
        DataError: an image cannot be read.
    """
    for item in dicts:
        if "width" not in item or "height" not in item:
            item["width"], item["height"] = _size_of(str(item["file_name"]))
    return dicts


def _size_of(path: str) -> tuple[int, int]:
    """Return width and height in pixels as training sees the image, turned by its EXIF data."""
    if path not in _known:
        try:
            with Image.open(path) as image:
                turned = image.getexif().get(_ORIENTATION) in _TURNED
                width, height = image.size
        except Exception as error:  # decoders raise errors of any type
            raise DataError(f"{path}: cannot be read: {error}") from error
        _known[path] = (height, width) if turned else (width, height)
    return _known[path]
