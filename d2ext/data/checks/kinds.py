"""The kinds of issues: code, severity, what is wrong and what helps; the table is kinds.yaml."""

from typing import NamedTuple

from d2ext.tables import read_table

SEVERITIES = ("error", "warning", "note")  # the worst first


class Kind(NamedTuple):
    """A kind of issue.

    Args:
        code: its name in reports, such as "box-empty"; it never changes.
        severity: "error" makes training fail or be wrong, "warning" makes it worse, "note" is
            worth knowing.
        summary: what is wrong.
        remedy: what helps.
        fix: what a fixed copy of the data does about it, "" for nothing.
    """

    code: str
    severity: str
    summary: str
    remedy: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.summary}; {self.remedy}."


KINDS: dict[str, Kind] = {
    code: Kind(code, **values) for code, values in read_table(__file__, "kinds.yaml").items()
}


def register_kind(kind: Kind) -> None:
    """Add a kind of issue, which checks of a project report by its code.

    The code of a project's kind begins with the project's name or kind of data: "lidar-empty".

    Raises:
        ValueError: the code is taken by another kind, or the severity is unknown.
    """
    # A module may be imported twice under two names; the same kind again is no mistake.
    if KINDS.get(kind.code, kind) != kind:
        raise ValueError(f"{kind.code}: this code is taken: {KINDS[kind.code]}")
    if kind.severity not in SEVERITIES:
        raise ValueError(f"{kind.code}: severity {kind.severity!r}, not one of {SEVERITIES}")
    KINDS[kind.code] = kind


def kind_of(code: str) -> Kind:
    """Return the kind of that code.

    Raises:
        ValueError: there is none.
    """
    if code not in KINDS:
        raise ValueError(f"{code}: no kind of issue has this code; see register_kind.")
    return KINDS[code]
