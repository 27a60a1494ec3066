"""Progress of a long command: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from datetime import timedelta

from tqdm import tqdm

INTERVAL = 30.0  # seconds between two lines


class Heartbeat:
    """Counts what is done; use it as a context.

    Args:
        total: number of units.
        unit: name of one, such as "file".
        quiet: show nothing.
    """

    def __init__(self, total: int, unit: str, quiet: bool = False) -> None:
        self.total, self.unit = total, unit
        self.lines = not quiet and not sys.stderr.isatty()
        self.done, self.start = 0, time.monotonic()
        self.printed = self.start
        self.bar = tqdm(total=total, unit=unit, disable=quiet or self.lines)

    def __enter__(self) -> "Heartbeat":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def update(self, count: int = 1) -> None:
        """Add units that are done."""
        self.done += count
        self.bar.update(count)
        now = time.monotonic()
        if self.lines and now - self.printed >= INTERVAL:
            self.printed = now
            rate = self.done / (now - self.start)
            left = timedelta(seconds=round((self.total - self.done) / rate))
            print(
                f"{self.done} of {self.total} {self.unit}s, {rate:.1f} per second, {left} left",
                file=sys.stderr,
                flush=True,
            )
