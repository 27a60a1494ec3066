"""A derived value with the reason for it."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reasoned:
    """A derived value with an explanation for the log."""

    value: Any
    reason: str

    def __str__(self) -> str:
        return f"{self.value} ({self.reason})"
