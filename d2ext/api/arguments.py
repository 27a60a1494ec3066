"""Arguments of calls as the words that the commands take."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Data = str | Path | Sequence[str | Path]


def as_pairs(values: Mapping[str, Any]) -> list[str]:
    """Return KEY VALUE pairs; values that are None or "" are left out."""
    given = {key: value for key, value in values.items() if value is not None and value != ""}
    return [text for key, value in given.items() for text in (key, str(value))]


def as_flags(flags: Mapping[str, Data]) -> list[str]:
    """Return flags that may be repeated, each with its value: "--train a --train b"."""
    words = []
    for flag, given in flags.items():
        values = [given] if isinstance(given, (str, Path)) else given
        words += [text for value in values if str(value) for text in (flag, str(value))]
    return words
