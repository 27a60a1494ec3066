"""Write metrics.json, one line of metrics per iteration, unchanged by resumes."""

import json
import math
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

from d2ext.errors import OutputError
from d2ext.files import read_regular, replacing
from detectron2.utils.events import EventWriter, get_event_storage

WINDOW = 20  # iterations over which noisy metrics are smoothed, as in Detectron2's writers


class MetricsFile(EventWriter):
    """Detectron2's JSONWriter that writes the metrics of each iteration exactly once.

    Args:
        path: of the file. That of an earlier training is renamed to "previous_<name>".
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self.written = -1  # metrics up to this iteration are in the file

    def resume(self, written: int) -> None:
        """Drop the lines after iteration `written`, from which training continues."""
        self.written = written
        lines = [line for line in self._lines() if _iteration(line) <= written]
        if lines or self.path.exists():
            with replacing(self.path) as temporary:
                temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def start(self) -> None:
        """Start a new file."""
        if self.path.exists():
            os.replace(self.path, self.path.with_name(f"previous_{self.path.name}"))

    def write(self) -> None:
        """Append a line per iteration with new metrics.

        Raises:
            OutputError: the disk is full or the file cannot be written.
        """
        rows: dict[int, dict[str, Any]] = defaultdict(dict)
        for name, (value, iteration) in (
            get_event_storage().latest_with_smoothing_hint(WINDOW).items()
        ):
            if iteration > self.written and math.isfinite(value):  # JSON has no NaN
                rows[iteration][name] = value
        text = "".join(
            json.dumps({**rows[iteration], "iteration": iteration}, sort_keys=True) + "\n"
            for iteration in sorted(rows)
        )
        self._append(text)
        self.written = max([self.written, *rows])

    def _append(self, text: str) -> None:
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be written ({error.strerror}); free some space or choose "
                "another OUTPUT_DIR, then go on with --resume."
            ) from error

    def _lines(self) -> list[str]:
        if not self.path.is_file():
            return []
        return read_regular(self.path).decode("utf-8", "replace").splitlines()


def _iteration(line: str) -> float:
    """Return the iteration of a line; infinity for a line that a kill cut short."""
    try:
        return json.loads(line)["iteration"]
    except (ValueError, KeyError, TypeError):
        return float("inf")
