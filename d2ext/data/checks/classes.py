"""Classes: names, ids, counts, and what should not be one."""

import re
from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from d2ext.data.checks.subject import Subject

_RARE = 100  # times fewer objects than the commonest class has
_BACKGROUND = frozenset(
    [
        "background",
        "bg",
        "none",
        "null",
        "nothing",
        "void",
        "unlabeled",
        "unlabelled",
        "ignore",
        "ignored",
        "ignoreregion",
        "ignoredregions",
        "dontcare",
        "unknown",
        "other",
        "others",
        "undefined",
    ]
)


def check_classes(subject: Subject) -> None:
    """Look at the names of all classes and at the objects that each has."""
    _check_names(subject)
    if subject.source.task in ("semantic", "panoptic"):
        return
    groups = {name for name, _ in _supercategories(subject)}
    counts = class_counts(subject)
    for number, count in enumerate(counts):
        name = subject.source.classes[number]
        if count == 0:
            code = "class-supercategory" if plain(name) in groups else "class-unused"
            _add(subject, code, name, "no objects")
        elif count == 1:
            _add(subject, "class-single", name, "1 object")
        elif count * _RARE < counts.max():
            most = subject.source.classes[int(counts.argmax())]
            _add(subject, "class-rare", name, f"{count} objects, {counts.max()} of {most}")


def class_counts(subject: Subject) -> np.ndarray:
    """(classes,) objects of each class, crowd regions aside."""
    labels = subject.labels[~subject.crowd]
    return np.bincount(labels, minlength=len(subject.source.classes))


def plain(name: str) -> str:
    """A name without what people spell differently: case, spaces, punctuation."""
    return re.sub(r"[\W_]+", "", name).casefold()


def check_class_lists(subjects: list[Subject]) -> None:
    """Compare the first data set, which is learned from, with each of the others."""
    first, *others = subjects
    learned = _present(first)
    for other in others:
        names, expected = other.source.classes, first.source.classes
        if set(names) != set(expected):
            only, missing = set(names) - set(expected), set(expected) - set(names)
            detail = f"only in {other.name}: {_listed(only)}; only in {first.name}: "
            _add(other, "classes-differ", "", detail + _listed(missing))
        elif names != expected:
            detail = f"{', '.join(names)}; in {first.name} {', '.join(expected)}"
            _add(other, "classes-differ", "", f"the order differs: {detail}")
        measured = _present(other)
        for name in sorted(measured - learned):
            _add(other, "class-untrained", name, f"no object in {first.name}")
        for name in sorted((learned - measured) & set(names)):
            _add(other, "class-unmeasured", name, f"no object in {other.name}")


def _check_names(subject: Subject) -> None:
    by_plain: dict[str, list[str]] = defaultdict(list)
    for name in subject.source.classes:
        by_plain[plain(name) or name].append(name)
        if not name.strip():
            _add(subject, "class-nameless", name, "the name is empty")
        elif name != name.strip():
            _add(subject, "class-name-space", name, "a space at an end of the name")
        if plain(name) in _BACKGROUND:
            count = int((subject.labels == subject.source.classes.index(name)).sum())
            _add(subject, "class-background", name, f"{count} objects")
        if name.strip().isdecimal():
            _add(subject, "class-name-number", name, "no word")
    for names in by_plain.values():
        _compare_names(subject, names)


def _compare_names(subject: Subject, names: list[str]) -> None:
    different = list(dict.fromkeys(names))
    for name in different:
        if names.count(name) > 1:
            _add(subject, "class-name-twice", name, f"{names.count(name)} classes of this name")
    for name in different[1:]:
        _add(subject, "class-name-similar", name, f"beside {different[0]!r}")


def _supercategories(subject: Subject) -> Iterable[tuple[str, str]]:
    """Group and class of the classes that name a group other than themselves."""
    for category in subject.source.metadata.get("categories", ()):
        group, name = category.get("supercategory"), category.get("name")
        if isinstance(group, str) and isinstance(name, str) and plain(group) != plain(name):
            yield plain(group), name


def _present(subject: Subject) -> set[str]:
    counts = class_counts(subject)
    return {name for name, count in zip(subject.source.classes, counts, strict=True) if count}


def _listed(names: set[str]) -> str:
    return ", ".join(map(repr, sorted(names))) or "none"


def _add(subject: Subject, code: str, name: str, detail: str) -> None:
    subject.add(code, str(subject.source.path), f"{name!r}: {detail}" if name else detail)
