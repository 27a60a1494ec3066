"""Parsing values of annotation files: exporters write flags and numbers as text, too."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_FALSE = ("", "0", "0.0", "false", "no", "n", "f", "none", "null", "unspecified")
_WITH_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")
_MAYBE_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")  # 1,234 is 1234 in English
_WHOLE = re.compile(r"\s*\d+\.0+\s*")
_DECIMAL_COMMAS = "numbers have a decimal comma, as in 12,5, and are read as 12.5 is"
_SEPARATED = "lines have commas or semicolons between their numbers, and are read so"

_oddities: ContextVar[Counter[str] | None] = ContextVar("oddities", default=None)


@contextmanager
def oddities_counted() -> Iterator[Counter[str]]:
    """Within it, numbers in unusual notation are counted, by what a note says of them."""
    found: Counter[str] = Counter()
    token = _oddities.set(found)
    try:
        yield found
    finally:
        _oddities.reset(token)


def is_true(value: Any) -> bool:
    """Parse a flag: 1, True, "1" and "yes" are true; 0, None, "0", "False" and "no" are false."""
    if isinstance(value, str):
        return value.strip().lower() not in _FALSE
    return bool(value)


def as_numbers(values: Any) -> list[float] | None:
    """Parse a list of numbers, or of texts that are numbers; return None for anything else.

    The list may be one text, too: "[1, 2]", "1,2" or "1 2". Texts in a list may have decimal
    commas, see `with_decimal_points`.
    """
    if isinstance(values, str):
        values = values.strip("[]() ").replace(",", " ").split()
    try:
        return [float(value) for value in values]
    except (TypeError, ValueError, OverflowError):  # whole numbers may be larger than any float
        pass
    points = with_decimal_points(values) if isinstance(values, (list, tuple)) else None
    return as_numbers(points) if points is not None else None


def as_size(values: Any) -> tuple[int, int] | None:
    """Parse the width and height of an image in whole pixels; return None unless both are >= 1."""
    found = as_numbers(values)
    if found is None or len(found) != 2 or not all(1 <= number < math.inf for number in found):
        return None
    return int(found[0]), int(found[1])


def with_decimal_points(values: Sequence[Any]) -> list[Any] | None:
    """Replace decimal commas by points in the numbers of one record: "12,5" becomes "12.5".

    Returns:
        None where no text has one, or where commas may part thousands: all look like "1,234", or
        others of the numbers have points.
    """
    texts = [value.strip() if isinstance(value, str) else value for value in values]
    commas = [text for text in texts if isinstance(text, str) and "," in text]
    points = any(isinstance(text, str) and "." in text for text in texts)
    if points or not all(map(_WITH_COMMA.fullmatch, commas)):
        return None
    if all(map(_MAYBE_THOUSANDS.fullmatch, commas)):  # also where there is none
        return None
    _count(_DECIMAL_COMMAS, len(commas))
    return [text.replace(",", ".") if isinstance(text, str) else text for text in texts]


def number_words(line: str) -> list[str]:
    """Split a line of numbers at white space, or at commas or semicolons; commas may be decimal.

    "0 0,5 0,5" and "0;0,5;0,5" are 0, 0.5 and 0.5, as is "0,0.5,0.5". What may be read in two ways,
    such as "0,0,5,0,5", stays as it is.
    """
    words = line.split()
    if "," not in line and ";" not in line:
        return words
    parts = [part.strip(",") for part in line.replace(";", " ").split()]
    if not any("," in part for part in parts):  # "0, 0.5, 0.5"
        _count(_SEPARATED, 1)
        return [part for part in parts if part]
    points = with_decimal_points(parts)
    if points is not None:
        return points
    pieces = line.replace(",", " ").replace(";", " ").split()
    if not any("." in piece for piece in pieces):
        return words
    _count(_SEPARATED, 1)
    return pieces


def as_id(value: Any) -> Any:
    """Parse an id: "3", " 3", 3.0 and "3.0" are 3; all others stay as they are."""
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = value.partition(".")[0]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    # Text of more than 18 digits is no number: Python refuses to parse thousands of them.
    is_number = isinstance(value, str) and len(value) < 19 and value.strip().isdecimal()
    return int(value) if is_number else value


def _count(what: str, number: int) -> None:
    found = _oddities.get()
    if found is not None:
        found[what] += number
