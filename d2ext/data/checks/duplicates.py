"""The same picture more than once, in one data set or in two.

Pictures are alike if they pass two tests. The first is a difference hash: of an 8 x 9 grey picture,
64 bits say whether each pixel is brighter than its left neighbour; at most seven bits may differ.
It survives scaling, JPEG and changes of brightness, and all pairs are compared by one product of
matrices. The second tells true pairs from accidents: the correlation of the 16 x 16 pictures, at
least 0.9. Mirrored and rotated pictures are not found.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from d2ext.data.checks.subject import Subject
from d2ext.data.image_info import ImageInfo

MAX_BITS = 7  # of 64 that differ
MIN_CORRELATION = 0.9
_ROWS = 1024  # pictures compared with all others at once

Floats = NDArray[np.float32]
Place = tuple[int, int]  # positions of a subject and of an image in it


def check_duplicates(subjects: Sequence[Subject], probes: Mapping[Path, ImageInfo]) -> None:
    """Compare the images of all data sets, the first of which is learned from.

    Each image is told once, with the earlier one that it is most like.
    """
    same = _find_same(subjects, probes)
    places = [
        (s, i)
        for s, subject in enumerate(subjects)
        for i, item in enumerate(subject.images)
        if (s, i) not in same and _comparable(probes[Path(item["file_name"])])
    ]
    pictures = [probes[_path(subjects, place)].thumbnail for place in places]
    if len(pictures) > 1:
        for later, earlier, likeness in alike(np.stack(pictures)):  # type: ignore[arg-type]
            _tell(subjects, places[later], places[earlier], f"correlation {likeness:.2f}", "near")


def difference_hash(thumbnails: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(N, S, S) grey pictures -> (N, 64) bits."""
    small = [cv2.resize(p, (9, 8), interpolation=cv2.INTER_AREA) for p in thumbnails]
    array = np.stack(small).astype(np.int16)
    return (array[:, :, 1:] > array[:, :, :-1]).reshape(-1, 64)


def alike(thumbnails: NDArray[np.uint8]) -> Iterator[tuple[int, int, float]]:
    """Position of a picture, of the earlier one that it is most like, and their correlation."""
    signs = np.where(difference_hash(thumbnails), np.float32(1), np.float32(-1))
    centred = _normalised(thumbnails)
    for start in range(0, len(signs), _ROWS):
        rows = signs[start : start + _ROWS]
        bits = (64 - rows @ signs[: start + len(rows)].T) / 2
        later, earlier = np.nonzero(bits <= MAX_BITS)
        before = earlier < later + start
        later, earlier = later[before] + start, earlier[before]
        yield from _best(later, earlier, centred)


def _best(
    later: NDArray[np.intp], earlier: NDArray[np.intp], centred: Floats
) -> Iterator[tuple[int, int, float]]:
    for group in np.split(np.arange(len(later)), np.flatnonzero(np.diff(later)) + 1):
        if len(group):
            likeness = centred[earlier[group]] @ centred[later[group[0]]]
            best = int(likeness.argmax())
            if likeness[best] >= MIN_CORRELATION:
                yield int(later[group[0]]), int(earlier[group[best]]), float(likeness[best])


def _normalised(thumbnails: NDArray[np.uint8]) -> Floats:
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def _find_same(subjects: Sequence[Subject], probes: Mapping[Path, ImageInfo]) -> set[Place]:
    """Tell of files with the bytes of an earlier one; where they are."""
    first: dict[bytes, Place] = {}
    told = set()
    for s, subject in enumerate(subjects):
        seen_here: dict[bytes, Place] = {}
        for i, item in enumerate(subject.images):
            digest = probes[Path(item["file_name"])].digest
            earlier = seen_here.get(digest) or first.get(digest)
            if digest and earlier is not None and _differ(subjects, earlier, (s, i)):
                _tell(subjects, (s, i), earlier, "the same bytes", "same")
                told.add((s, i))
            seen_here.setdefault(digest, (s, i))
            first.setdefault(digest, (s, i))
    return told


def _differ(subjects: Sequence[Subject], one: Place, other: Place) -> bool:
    """Whether they are two files, or one in two data sets; one listed twice is another fault."""
    return one[0] != other[0] or _path(subjects, one) != _path(subjects, other)


def _tell(subjects: Sequence[Subject], later: Place, earlier: Place, how: str, end: str) -> None:
    leak = later[0] != earlier[0] == 0
    code = f"leak-{end}" if leak else "duplicate-image" if end == "same" else "duplicate-near"
    where = f" of {subjects[earlier[0]].name}" if later[0] != earlier[0] else ""
    detail = f"like {_path(subjects, earlier)}{where}, {how}"
    subjects[later[0]].add_image(code, later[1], detail)


def _path(subjects: Sequence[Subject], place: Place) -> Path:
    return Path(subjects[place[0]].images[place[1]]["file_name"])


def _comparable(found: ImageInfo) -> bool:
    return found.thumbnail is not None and not found.blank
