"""Parsing values of annotation files: exporters write flags and numbers as text, too."""

from typing import Any

_FALSE = ("", "0", "0.0", "false", "no", "n", "f", "none", "null", "unspecified")


def is_true(value: Any) -> bool:
    """Parse a flag: 1, True, "1" and "yes" are true; 0, None, "0", "False" and "no" are false."""
    if isinstance(value, str):
        return value.strip().lower() not in _FALSE
    return bool(value)


def as_numbers(values: Any) -> list[float] | None:
    """Parse a list of numbers, or of texts that are numbers; return None for anything else.

    The list may be one text, too: "[1, 2]", "1,2" or "1 2".
    """
    if isinstance(values, str):
        values = values.strip("[]() ").replace(",", " ").split()
    try:
        return [float(value) for value in values]
    except (TypeError, ValueError, OverflowError):  # whole numbers may be larger than any float
        return None


def as_id(value: Any) -> Any:
    """Parse an id: "3", " 3" and 3.0 are 3; all others stay as they are."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    # Text of more than 18 digits is no number: Python refuses to parse thousands of them.
    is_number = isinstance(value, str) and len(value) < 19 and value.strip().isdecimal()
    return int(value) if is_number else value
