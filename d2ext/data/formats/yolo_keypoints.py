"""The shape of keypoints in YOLO's labels: their number, and how many values each has."""

from collections.abc import Iterable, Sequence
from typing import Any

from d2ext.data.formats.values import as_numbers


def keypoint_shape(shape: Any) -> tuple[int, int] | None:
    """Return the number of keypoints and of values per keypoint, 2 or 3; None without keypoints."""
    numbers = as_numbers(shape) if isinstance(shape, (list, tuple, str)) else None
    if numbers and len(numbers) == 2 and numbers[0] >= 1 and numbers[1] in (2, 3):
        return int(numbers[0]), int(numbers[1])
    return None


def guess_keypoints(
    labels: Sequence[Sequence[float]], others: Iterable[Sequence[str]]
) -> tuple[int, int] | None:
    """Return the shape of keypoints that no yaml file gives, by their visibilities.

    Every label is a box and as many points, and some visibility is 2, which no normalised
    coordinate is.

    Args:
        labels: numbers of each label, without the class.
        others: words of the labels of other splits; a small split may have no visible point.
    """
    counts = {len(numbers) for numbers in labels}
    count = counts.pop() if len(counts) == 1 else 0
    if count < 7 or count % 3 != 1:
        return None
    seen = {number for numbers in labels for number in numbers[6::3]}
    if not seen <= {0, 1, 2}:
        return None
    alike = (words for words in others if len(words) == count + 1)
    visible = 2 in seen or any(word in ("2", "2.0") for words in alike for word in words[7::3])
    return ((count - 4) // 3, 3) if visible else None
