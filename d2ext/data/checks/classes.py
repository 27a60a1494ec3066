"""Class checks: names, number of objects, and entries that should not be a class."""

import re
from collections import defaultdict
from collections.abc import Collection, Sequence

from d2ext.data.checks.context import CheckContext
from d2ext.text import join_sorted

_RARE = 100  # times fewer objects than the most frequent class has
_BACKGROUND = frozenset(
    (
        *("background", "bg", "none", "null", "nothing", "void", "unlabeled", "unlabelled"),
        *("ignore", "ignored", "ignoreregion", "ignoredregions", "dontcare"),
        *("unknown", "other", "others", "undefined"),
    )
)


def check_classes(context: CheckContext) -> None:
    """Check the names of all classes and the number of objects of each."""
    _check_names(context)
    if context.split.annotates_pixels:
        return
    groups = _supercategories(context)
    counts = context.class_counts
    for name, count in zip(context.split.classes, counts.tolist(), strict=True):
        if count == 0:
            is_group = comparable_name(name) in groups
            _add(context, "class-supercategory" if is_group else "class-unused", name, "no objects")
        elif count == 1:
            _add(context, "class-single", name, "1 object")
        elif count * _RARE < counts.max():
            most = context.split.classes[int(counts.argmax())]
            _add(context, "class-rare", name, f"{count} objects, {counts.max()} of {most}")


def comparable_name(name: str) -> str:
    """Return a name without case, spaces and punctuation, which people spell differently."""
    return re.sub(r"[\W_]+", "", name).casefold()


def check_class_lists(contexts: Sequence[CheckContext]) -> None:
    """Compare the classes of the first data set, the training data, with each of the others."""
    train, *others = contexts
    learned = _classes_with_objects(train)
    for other in others:
        _compare_names(train, other)
        evaluated = _classes_with_objects(other)
        for name in sorted(evaluated - learned):
            _add(other, "class-untrained", name, f"no object in {train.name}")
        for name in sorted((learned - evaluated) & set(other.split.classes)):
            _add(other, "class-unmeasured", name, f"no object in {other.name}")


def _compare_names(train: CheckContext, other: CheckContext) -> None:
    names, expected = other.split.classes, train.split.classes
    if set(names) != set(expected):
        extra, missing = set(names) - set(expected), set(expected) - set(names)
        detail = f"only in {other.name}: {_quoted(extra)}; only in {train.name}: {_quoted(missing)}"
        _add(other, "classes-differ", "", detail)
    elif names != expected:
        detail = f"{', '.join(names)}; in {train.name} {', '.join(expected)}"
        _add(other, "classes-differ", "", f"the order differs: {detail}")


def _check_names(context: CheckContext) -> None:
    similar: dict[str, list[str]] = defaultdict(list)
    for number, name in enumerate(context.split.classes):
        similar[comparable_name(name) or name].append(name)
        if not name.strip():
            _add(context, "class-nameless", name, "the name is empty")
        elif name != name.strip():
            _add(context, "class-name-space", name, "a space at an end of the name")
        # Detectors have a background of their own; a class of that name competes with it.
        if comparable_name(name) in _BACKGROUND:
            count = int((context.labels == number).sum())
            _add(context, "class-background", name, f"{count} objects")
        if name.strip().isdecimal():
            _add(context, "class-name-number", name, "no word")
    for names in similar.values():
        _check_similar(context, names)


def _check_similar(context: CheckContext, names: Sequence[str]) -> None:
    different = list(dict.fromkeys(names))
    for name in different:
        if names.count(name) > 1:
            _add(context, "class-name-twice", name, f"{names.count(name)} classes of this name")
    for name in different[1:]:
        _add(context, "class-name-similar", name, f"beside {different[0]!r}")


def _supercategories(context: CheckContext) -> set[str]:
    """Return the groups, as comparable names, that classes of another name belong to."""
    categories = context.split.metadata.get("categories", ())
    pairs = [(c.get("supercategory"), c.get("name")) for c in categories]
    named = [pair for pair in pairs if isinstance(pair[0], str) and isinstance(pair[1], str)]
    plain = [(comparable_name(group), comparable_name(name)) for group, name in named]
    return {group for group, name in plain if group != name}


def _classes_with_objects(context: CheckContext) -> set[str]:
    names = zip(context.split.classes, context.class_counts, strict=True)
    return {name for name, count in names if count}


def _quoted(names: Collection[str]) -> str:
    return join_sorted(map(repr, names))


def _add(context: CheckContext, code: str, name: str, detail: str) -> None:
    where = str(context.split.path)
    context.add(code, where, f"{name!r}: {detail}" if name else detail)
