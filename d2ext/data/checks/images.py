"""Image files: whether they can be read, and whether they are what their annotations say."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from d2ext.data.checks.subject import Subject
from d2ext.data.image_info import ImageInfo

_COMMON = 10  # images of one size for another size to be odd beside it
_ODD = 2  # pixels
_SUFFIXES = {
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".mpo"),
    "PNG": (".png", ".apng"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
KNOWN_SUFFIXES = frozenset(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes)
_DEEP = ("I", "F")  # modes of Pillow with more than 8 bits


def check_images(subject: Subject, probes: Mapping[Path, ImageInfo]) -> None:
    """Compare each image with its annotation.

    Args:
        probes: of all images of the subject, by path.
    """
    for number, item in enumerate(subject.images):
        found = probes[Path(item["file_name"])]
        if found.problem:
            subject.add_image(found.problem, number, found.detail)
        if found.size != (0, 0):
            _check_size(subject, number, found)
            _check_form(subject, number, found)
    _find_listed_twice(subject)
    _find_odd_sizes(subject)


def _check_size(subject: Subject, number: int, found: ImageInfo) -> None:
    item = subject.images[number]
    stated = (item["width"], item["height"])
    if found.upright_size != stated:
        turned = found.size == stated
        detail = (
            f"{_by(found.upright_size)} pixels, its annotation says {_by(stated)}"
            if not turned
            else f"annotated as {_by(stated)}, EXIF orientation {found.orientation} makes it "
            f"{_by(found.upright_size)}"
        )
        subject.add_image("image-turned" if turned else "image-size", number, detail)
    elif found.orientation != 1:
        subject.add_image("image-exif", number, f"EXIF orientation {found.orientation}")


def _check_form(subject: Subject, number: int, found: ImageInfo) -> None:
    suffix = Path(subject.images[number]["file_name"]).suffix.lower()
    expected = _SUFFIXES.get(found.format)
    if expected and suffix in KNOWN_SUFFIXES and suffix not in expected:
        subject.add_image("image-suffix", number, f"{found.format} inside")
    if found.mode in _DEEP or found.mode.startswith("I;16"):
        subject.add_image("image-depth", number, f"Pillow's mode {found.mode}")
    if found.frames > 1:
        subject.add_image("image-frames", number, f"{found.frames} pictures")
    if found.blank:
        subject.add_image("image-blank", number, "one colour everywhere")


def _find_listed_twice(subject: Subject) -> None:
    first: dict[str, int] = {}
    for number, item in enumerate(subject.images):
        earlier = first.setdefault(item["file_name"], number)
        if earlier != number:
            ids = f"ids {subject.images[earlier]['image_id']} and {item['image_id']}"
            subject.add_image("image-listed-twice", number, ids)


def _find_odd_sizes(subject: Subject) -> None:
    by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, item in enumerate(subject.images):
        by_size[item["width"], item["height"]].append(number)
    counts = Counter({size: len(numbers) for size, numbers in by_size.items()})
    for size, numbers in by_size.items():
        near = [s for s in counts if s != size and np.abs(np.subtract(s, size)).max() <= _ODD]
        common = max(near, key=counts.__getitem__, default=size)
        if counts[common] >= 2 * len(numbers) and counts[common] >= _COMMON / 2:
            for number in numbers:
                detail = f"{_by(size)}, {counts[common]} others {_by(common)}"
                subject.add_image("image-size-odd", number, detail)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
