"""Faults that were found, as text for a person and as JSON for a program."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from d2ext.data.checks.kinds import KINDS, SEVERITIES, Kind
from d2ext.files import replacing

VERSION = 1  # of the JSON: raise it when a key changes its meaning
SHOWN = 5  # examples of a kind in the text


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault at one place.

    Args:
        code: of its kind.
        split: the data set's name, as in "train".
        where: the native file, with line or record.
        detail: what was found there, in a few words with the values.
        image: the image file that shows it, if one does.
        box: XYXY pixels, if there is one to draw.
        image_index: position of the image in its source, if it is listed.
        object_index: position of the object among all of its source, if it is about one.
        record: the object's id or line, if it is about one.
    """

    code: str
    split: str
    where: str
    detail: str
    image: Path | None = None
    box: tuple[float, ...] | None = None
    image_index: int | None = None
    object_index: int | None = None
    record: int | str | None = None

    @property
    def kind(self) -> Kind:
        return KINDS[self.code]


@dataclass
class Report:
    """All faults of the data sets that were checked together.

    Args:
        about: a split's name -> what it is: format, path, counts.
    """

    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether there is nothing but notes."""
        return all(fault.kind.severity == "note" for fault in self.faults)

    def by_kind(self) -> dict[Kind, list[Fault]]:
        """The kinds that were found, errors first, then as the table of kinds has them."""
        groups: dict[str, list[Fault]] = defaultdict(list)
        for fault in self.faults:
            groups[fault.code].append(fault)
        found = [kind for kind in KINDS.values() if kind.code in groups]
        found.sort(key=lambda kind: SEVERITIES.index(kind.severity))
        return {kind: groups[kind.code] for kind in found}

    def counts(self) -> dict[str, int]:
        """Severity -> number of faults."""
        severities = [fault.kind.severity for fault in self.faults]
        return {severity: severities.count(severity) for severity in SEVERITIES}

    def text(self, shown: int = SHOWN) -> str:
        """Each split in a line, then each kind with its count, remedy and first places."""
        lines = [f"{name}: {_sentence(about)}" for name, about in self.about.items()]
        for kind, faults in self.by_kind().items():
            lines += ["", f"{kind.severity} {kind.code}, {len(faults)}: {kind}"]
            lines += [f"    {place}" for place in places(faults, shown)]
        return "\n".join([*lines, "", self.summary()])

    def summary(self) -> str:
        """One line of counts."""
        counts = [f"{n} {name}s" for name, n in self.counts().items() if n]
        return ", ".join(counts) if counts else "no faults found"

    def as_json(self) -> dict[str, Any]:
        """The report of plain values; every fault stands in it."""
        kinds = [
            {
                "code": kind.code,
                "severity": kind.severity,
                "summary": kind.summary,
                "remedy": kind.remedy,
                "fix": kind.fix,
                "count": len(faults),
                "places": [_place(fault) for fault in faults],
            }
            for kind, faults in self.by_kind().items()
        ]
        splits = list(self.about.values())
        return {"version": VERSION, "splits": splits, "counts": self.counts(), "faults": kinds}

    def write(self, path: Path) -> None:
        """Write `as_json`.

        Raises:
            OutputError: the place cannot be written to.
        """
        with replacing(path) as part:
            part.write_text(json.dumps(self.as_json(), indent=1, allow_nan=False), "utf-8")


def places(faults: Sequence[Fault], shown: int) -> Iterable[str]:
    """The first faults in a line each, and how many more there are."""
    yield from (f"{fault.where}: {fault.detail}" for fault in faults[:shown])
    if len(faults) > shown:
        yield f"and {len(faults) - shown} more"


def _sentence(about: dict[str, Any]) -> str:
    classes = len(about["classes"])
    return (
        f"{about['format']}, {about['path']}: {about['images']} images, "
        f"{about['objects']} objects, {classes} classes"
    )


def _place(fault: Fault) -> dict[str, Any]:
    return {
        "split": fault.split,
        "where": fault.where,
        "record": _finite(fault.record) if isinstance(fault.record, float) else fault.record,
        "image": str(fault.image) if fault.image else None,
        "box": [_finite(value) for value in fault.box] if fault.box else None,
        "detail": fault.detail,
    }


def _finite(value: float) -> float | str:
    """JSON has no name for numbers that are not finite."""
    return float(value) if abs(value) < float("inf") else str(value)
