"""Near-duplicate images, in one data set or in two (a leak from training into evaluation).

Images are alike if they pass two tests. The first is a difference hash: of an 8 x 9 grey picture,
64 bits say whether each pixel is brighter than its left neighbour; at most seven bits may differ.
It survives scaling, JPEG and changes of brightness. The second separates true pairs from accidents:
the correlation of the 16 x 16 pictures, at least 0.9. Mirrored and rotated pictures are not found.

Pairs are found by multi-index hashing (Norouzi et al., CVPR 2012): with at most seven of 64 bits
different, at least one of the hash's four 16-bit words differs in at most one bit.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from d2ext.data.checks.context import CheckContext
from d2ext.data.checks.pairs import Integers, expand_ranges
from d2ext.data.image_info import ImageInfo

MAX_BITS = 7  # of 64 that differ
MIN_CORRELATION = 0.9
_WORDS = 4  # that a hash is divided into, of 16 bits each
_FLIPS = (0, *(1 << bit for bit in range(16)))  # differences of a word by at most one bit
# Bits of neighbours agree more often than not: words along diagonals, which have bits of all rows
# and columns, repeat several times less often than words of two rows, and leave fewer candidates.
_DIAGONALS = np.argsort([(n // 8 + n) % _WORDS for n in range(64)], kind="stable")

Floats = NDArray[np.float32]
Bits = NDArray[np.bool_]
Position = tuple[int, int]  # of a context and of an image in it


def check_duplicates(contexts: Sequence[CheckContext]) -> None:
    """Compare the images of all data sets, the first of which is the training data.

    Each image is reported once, with the earlier one that it is most like.
    """
    infos = {
        (c, i): context.image_info[item["file_name"]]
        for c, context in enumerate(contexts)
        for i, item in enumerate(context.images)
    }
    same = _report_same_bytes(contexts, infos)
    positions = [at for at, info in infos.items() if at not in same and _is_comparable(info)]
    thumbnails = [infos[position].thumbnail for position in positions]
    if len(thumbnails) > 1:
        for later, earlier, correlation in most_alike(np.stack(thumbnails)):  # type: ignore[arg-type]
            how = f"correlation {correlation:.2f}"
            _report(contexts, positions[later], positions[earlier], how, "near")


def difference_hash(thumbnails: NDArray[np.uint8]) -> Bits:
    """Compute the difference hashes, (N, 64) bits, of (N, S, S) grey pictures."""
    small = [cv2.resize(p, (9, 8), interpolation=cv2.INTER_AREA) for p in thumbnails]
    array = np.stack(small).astype(np.int16)
    return (array[:, :, 1:] > array[:, :, :-1]).reshape(-1, 64)


def most_alike(thumbnails: NDArray[np.uint8]) -> Iterator[tuple[int, int, float]]:
    """Yield position of a picture, of the earlier one most like it, and their correlation.

    Args:
        thumbnails: (N, S, S) grey pictures. Those without an earlier one like them are skipped.
    """
    pictures = _normalised(thumbnails)
    best = np.zeros(len(pictures), dtype=np.float32)
    match = np.zeros(len(pictures), dtype=np.int64)
    for later, earlier in _near_hashes(difference_hash(thumbnails)):
        correlation = np.einsum("ns,ns->n", pictures[later], pictures[earlier])
        # Of a picture's pairs the best comes last: the assignment below keeps the last one.
        order = np.lexsort((-earlier, correlation))
        later, earlier, correlation = later[order], earlier[order], correlation[order]
        better = (correlation > best[later]) | (
            (correlation == best[later]) & (earlier < match[later])
        )
        best[later[better]] = correlation[better]
        match[later[better]] = earlier[better]
    for position in np.flatnonzero(best >= MIN_CORRELATION).tolist():
        yield position, int(match[position]), float(best[position])


def _near_hashes(bits: Bits) -> Iterator[tuple[Integers, Integers]]:
    """Yield the later and the earlier of each pair of (N, 64) hashes that differ in few bits."""
    packed = np.packbits(np.ascontiguousarray(bits[:, _DIAGONALS]), axis=1)
    hashes, words = packed.view(np.uint64)[:, 0], packed.view(np.uint16).astype(np.int64)
    for column in range(_WORDS):
        order = np.argsort(words[:, column], kind="stable")
        starts = np.searchsorted(words[order, column], np.arange((1 << 16) + 1))
        for flip in _FLIPS:
            wanted = words[:, column] ^ flip
            first = starts[wanted]
            for later, ranks in expand_ranges(first, starts[wanted + 1] - first):
                earlier = order[ranks]
                near = _bit_count(hashes[later] ^ hashes[earlier]) <= MAX_BITS
                near &= earlier < later
                later, earlier = later[near], earlier[near]
                new = _match_first_at(column, words[later] ^ words[earlier])
                yield later[new], earlier[new]


def _match_first_at(column: int, differences: Integers) -> Bits:
    """Return a mask of the pairs that no word before `column` has found."""
    before = differences[:, :column]
    return ((before & (before - 1)) != 0).all(1)


def _bit_count(values: NDArray[Any]) -> NDArray[Any]:
    """Count the bits that are set in (N,) uint64; NumPy 1 has no function for it."""
    values = values - ((values >> 1) & 0x5555555555555555)
    values = (values & 0x3333333333333333) + ((values >> 2) & 0x3333333333333333)
    values = (values + (values >> 4)) & 0x0F0F0F0F0F0F0F0F
    return (values * 0x0101010101010101) >> 56


def _normalised(thumbnails: NDArray[np.uint8]) -> Floats:
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def _report_same_bytes(
    contexts: Sequence[CheckContext], infos: Mapping[Position, ImageInfo]
) -> set[Position]:
    """Report the files with the bytes of an earlier one; return where they are."""
    first: dict[bytes, Position] = {}
    first_here: dict[tuple[int, bytes], Position] = {}
    reported = set()
    for position, info in infos.items():
        digest = info.digest
        earlier = first_here.get((position[0], digest)) or first.get(digest)
        if digest and earlier is not None and _are_two_files(contexts, earlier, position):
            _report(contexts, position, earlier, "the same bytes", "same")
            reported.add(position)
        first_here.setdefault((position[0], digest), position)
        first.setdefault(digest, position)
    return reported


def _are_two_files(contexts: Sequence[CheckContext], one: Position, other: Position) -> bool:
    """Return true for two files, and for one file in two data sets.

    One file that a data set lists twice is another issue: image-listed-twice.
    """
    return one[0] != other[0] or _file(contexts, one) != _file(contexts, other)


def _report(
    contexts: Sequence[CheckContext], later: Position, earlier: Position, how: str, end: str
) -> None:
    leak = later[0] != earlier[0] == 0
    code = f"leak-{end}" if leak else "duplicate-image" if end == "same" else "duplicate-near"
    where = f" of {contexts[earlier[0]].name}" if later[0] != earlier[0] else ""
    detail = f"like {_file(contexts, earlier)}{where}, {how}"
    contexts[later[0]].add_image(code, later[1], detail)


def _file(contexts: Sequence[CheckContext], position: Position) -> str:
    return contexts[position[0]].images[position[1]]["file_name"]


def _is_comparable(info: ImageInfo) -> bool:
    return info.thumbnail is not None and not info.blank
