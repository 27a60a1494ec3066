"""Lists and classes as text, and suggestions of similar names."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def first_few(items: Iterable[object], shown: int = 5) -> str:
    """Join the first items and count the rest: "a, b and 3 more"; "none" if there are none."""
    texts = [str(item) for item in items]
    more = f" and {len(texts) - shown} more" if len(texts) > shown else ""
    return (", ".join(texts[:shown]) or "none") + more


def join_sorted(names: Iterable[str]) -> str:
    """Sort and join all names: "a, b, c"; "none" if there are none."""
    return ", ".join(sorted(names)) or "none"


def class_name(class_id: int, names: Sequence[str]) -> str:
    """Return the name of a class, or "class N" where the data set has no names."""
    return str(names[class_id]) if class_id < len(names) else f"class {class_id}"


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Suggest the known name most like an unknown one, as the end of a clause.

    Args:
        cutoff: least similarity of difflib, from 0 to 1.
    Returns:
        "; did you mean NAME?", or "." where no known name is similar.
    """
    near = get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {near[0]}?" if near else "."
