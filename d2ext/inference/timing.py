"""Measure how long the parts of a repeated task take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Sums the seconds of named parts.

    Attributes:
        seconds: total per part, in the order of first use.
        rounds: how often the task was done; counted by the caller.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.rounds = 0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time spent inside the block to a part."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + spent

    def summary(self, what: str) -> str:
        """Format as "12 images: 8.0 a second; ms each: read 5.0, detect 120.0"."""
        total = sum(self.seconds.values())
        rate = self.rounds / total if total else 0.0
        each = (f"{name} {1000 * s / max(1, self.rounds):.1f}" for name, s in self.seconds.items())
        return f"{self.rounds} {what}: {rate:.1f} a second; ms each: {', '.join(each)}"
