"""`Report`: the issues of data sets, as text for a person and as JSON for a program."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from d2ext.data.checks.kinds import KINDS, SEVERITIES, Kind, kind_of
from d2ext.data.formats.archive import with_user_paths
from d2ext.data.issues import Issue
from d2ext.files import replacing

VERSION = 1  # of the JSON: raise it when a key changes its meaning
SHOWN = 5  # examples per kind in the text


@dataclass
class Report:
    """All issues of the data sets that were checked together.

    Args:
        about: a split's name -> its format, path and counts.
        issues: in the order in which the checks found them.
    """

    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    issues: list[Issue] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """True if there is nothing but notes."""
        return all(kind.severity == "note" for kind in self.by_kind())

    def by_kind(self) -> dict[Kind, list[Issue]]:
        """Return the issues by kind, errors first, then in the order of the table of kinds."""
        groups: dict[str, list[Issue]] = defaultdict(list)
        for issue in self.issues:
            groups[issue.code].append(issue)
        order = {code: number for number, code in enumerate(KINDS)}
        kinds = sorted(
            map(kind_of, groups), key=lambda k: (SEVERITIES.index(k.severity), order[k.code])
        )
        return {kind: groups[kind.code] for kind in kinds}

    def counts(self) -> dict[str, int]:
        """Return severity -> number of issues."""
        counts = dict.fromkeys(SEVERITIES, 0)
        for kind, issues in self.by_kind().items():
            counts[kind.severity] += len(issues)
        return counts

    def text(self, shown: int = SHOWN) -> str:
        """Return each split in a line, then each kind with its count, remedy and first places."""
        lines = []
        for name, about in self.about.items():
            lines.append(f"{name}: {_sentence(about)}")
            lines += [f"    {note}" for note in about.get("notes", ())]
        for kind, issues in self.by_kind().items():
            lines += ["", f"{kind.severity} {kind.code}, {len(issues)}: {kind}"]
            lines += [f"    {place}" for place in _places(issues, shown)]
        return "\n".join([*lines, "", self.summary()])

    def summary(self) -> str:
        """Return one line of counts."""
        counts = [f"{n} {name}s" for name, n in self.counts().items() if n]
        return ", ".join(counts) if counts else "no issues found"

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain values, with every issue."""
        kinds = [
            {
                **kind._asdict(),
                "count": len(issues),
                "places": [issue.as_json() for issue in issues],
            }
            for kind, issues in self.by_kind().items()
        ]
        splits = list(self.about.values())
        return {"version": VERSION, "splits": splits, "counts": self.counts(), "issues": kinds}

    def write(self, path: Path) -> None:
        """Write `as_json` to a file.

        Raises:
            OutputError: the file cannot be written.
        """
        with replacing(path) as part:
            part.write_text(json.dumps(self.as_json(), indent=1, allow_nan=False), "utf-8")


def _places(issues: Sequence[Issue], shown: int) -> Iterator[str]:
    """Yield the first issues in a line each, and how many more there are."""
    yield from (with_user_paths(f"{issue.where}: {issue.detail}") for issue in issues[:shown])
    if len(issues) > shown:
        yield f"and {len(issues) - shown} more"


def _sentence(about: dict[str, Any]) -> str:
    classes = len(about["classes"])
    return (
        f"{about['format']}, {about['path']}: {about['images']} images, "
        f"{about['objects']} objects, {classes} classes"
    )
