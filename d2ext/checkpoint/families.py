"""Recognise the family of models that a file of weights is for, by the names of its tensors."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

from d2ext.tables import read_table


@dataclass(frozen=True)
class Family:
    """A family of models.

    Args:
        name: of the family and, in brackets, of the code base if the names are not Detectron2's.
        patterns: regular expressions, each of which begins some name of such a file.
        loads: what loads such files.
    """

    name: str
    patterns: tuple[str, ...]
    loads: str

    @property
    def is_backbone(self) -> bool:
        """True for a backbone that was trained to classify images."""
        return self.name.startswith("an ImageNet")

    def is_same(self, other: "Family | None") -> bool:
        """Return true for the same models, perhaps of another code base."""
        return other is not None and self.name.partition(" (")[0] == other.name.partition(" (")[0]

    def recognise(self, names: Collection[str]) -> bool:
        """Return true if each pattern begins some name."""
        return all(any(re.match(pattern, name) for name in names) for pattern in self.patterns)


def describe_family(names: Collection[str], model: Collection[str] = ()) -> str:
    """Describe what a file of weights is and what loads it; "" if no family is recognised.

    Args:
        names: of its tensors, as they are in the file and as a layout renames them.
        model: names of the tensors of a model that some of them were loaded into: a file of its own
            family, or of a backbone, needs no word then.
    """
    found = _find_family(names)
    if found is None or (model and (found.is_backbone or found.is_same(_find_family(model)))):
        return ""
    return f"It holds {found.name}: {found.loads}."


def _find_family(names: Collection[str]) -> Family | None:
    return next((family for family in _families() if family.recognise(names)), None)


@cache
def _families() -> list[Family]:
    rows = read_table(__file__, "families.yaml")
    return [Family(row["name"], tuple(row["patterns"]), row["loads"]) for row in rows]
