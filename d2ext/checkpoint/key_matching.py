"""Key matching: comparing the state dict of a file with that of a model, and its messages."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from torch import nn

from d2ext.checkpoint.families import describe_family
from d2ext.checkpoint.layouts import Weights, registered_layouts
from d2ext.errors import WeightsError

LEAST_USED = 0.2  # share of a file's tensors; fewer match by accident, from another model
SHOWN = 5
# Constants that models compute; files of other versions may lack them.
_CONSTANTS = ("pixel_mean", "pixel_std", "num_batches_tracked", "cell_anchors")


@dataclass
class Match:
    """The correspondence of the keys of a file and a model.

    Args:
        matched: names with the same shape in both.
        missing: names that only the model has.
        unexpected: names that only the file has.
        mismatched: names with another shape: (name, shape in the file, shape in the model).
        unused: names of the file that no model needs.
        resized: matched names whose tensors were interpolated to another window size.
        selected: matched names of tensors of which only some rows are used.
        layout: name of the file's layout.
        expects: config values that such weights were trained with.
        architecture: the only meta-architecture that such weights are for; "" for any.
        in_file: the names of all tensors as they are in the file.
    """

    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    selected: list[str] = field(default_factory=list)
    layout: str = "d2ext"
    expects: str = ""
    architecture: str = ""
    in_file: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """True if every weight of the model comes from the file."""
        return not self.missing and not self.mismatched

    @property
    def foreign(self) -> bool:
        """True if hardly any tensor of the file matches: it is of another model."""
        of_file = len(self.matched) + len(self.unexpected) + len(self.mismatched)
        return len(self.matched) <= LEAST_USED * of_file

    def names(self) -> list[str]:
        """Return the names of all tensors of the file, and ours where they are known."""
        mismatched = [name for name, _, _ in self.mismatched]
        return [*self.matched, *self.unexpected, *mismatched, *self.unused, *self.in_file]

    def summary(self, separator: str = "\n  ") -> str:
        """Summarise in some lines what matched, what stays fresh and what is unused.

        Args:
            separator: of the lines; errors are one line.
        """
        shapes = [
            f"{name} {file} in the file, {model} in the model"
            for name, file, model in self.mismatched
        ]
        lines = [f"layout {self.layout}: {len(self.matched)} tensors matched"]
        lines += _listed("interpolated to other windows", self.resized, _alike(self.resized))
        lines += _listed("cut to the model's classes", self.selected, _alike(self.selected))
        lines += _listed("left fresh, of another shape", shapes, shapes)
        lines += _listed("left fresh, not in the file", self.missing, _alike(self.missing))
        lines += _listed("unused, not in the model", self.unexpected, _alike(self.unexpected))
        lines += _listed("unused, not needed", self.unused, _alike(self.unused))
        lines += [f"such weights expect {self.expects}"] if self.expects else []
        return separator.join(lines)


def match(weights: Weights, model: Weights) -> Match:
    """Compare the names and shapes of a file's tensors with those of a model."""
    found = Match()
    for name, tensor in weights.items():
        if name not in model:
            found.unexpected.append(name)
        elif tensor.shape != model[name].shape:
            found.mismatched.append((name, tuple(tensor.shape), tuple(model[name].shape)))
        else:
            found.matched.append(name)
    found.missing = [n for n in model if n not in weights and not n.endswith(_CONSTANTS)]
    return found


def check_classes(names: Sequence[str] | None, class_names: Sequence[str] | None) -> None:
    """Refuse data with other classes than the weights were trained for.

    Args:
        names: classes stored with the weights; None if the file has none.
        class_names: classes of the data; None if they have no names.
    Raises:
        WeightsError: they differ in number, name or order.
    """
    if names is None or class_names is None or list(names) == list(class_names):
        return
    only_weights = [name for name in names if name not in class_names]
    only_data = [name for name in class_names if name not in names]
    if not only_weights and not only_data:
        what = f"order: {', '.join(names)} in the weights, {', '.join(class_names)} in the data"
    else:
        what = f"only in the weights: {_some(only_weights)}; only in the data: {_some(only_data)}"
    raise WeightsError(
        f"MODEL.WEIGHTS was trained for {len(names)} classes, the data has {len(class_names)} "
        f"others ({what}). Evaluate with the data set's own weights or give the annotations "
        "the same categories in the same order of ids."
    )


def refuse_foreign(path: str | PurePath, found: Match, config: str = "") -> None:
    """Refuse weights of another model; say which one, and what loads it.

    Args:
        config: YAML of the config that d2ext wrote into the file, if there is one.
    Raises:
        WeightsError: hardly any tensor of the file matches one of the model.
    """
    if not found.foreign:
        return
    known = [layout.name for layout in registered_layouts()]
    unknown = "" if found.layout in known else f" or of another layout than {', '.join(known)}"
    raise WeightsError(
        f"{path}: weights of another model{unknown}; compare MODEL in the config."
        f"{_origin(found, config)} {found.summary('; ')}"
    )


def refuse_other_architecture(path: str | PurePath, found: Match, model: nn.Module) -> None:
    """Refuse weights of another meta-architecture, many of whose names may be the model's.

    Raises:
        WeightsError: the layout of the file is that of another meta-architecture alone.
    """
    names = [kind.__name__ for kind in type(model).__mro__]
    if found.architecture and found.architecture not in names:
        raise WeightsError(
            f"{path}: weights of {found.layout}, but MODEL.META_ARCHITECTURE is {names[0]}: set "
            f"it to {found.architecture}, or take weights of {names[0]}."
        )


def refuse_incomplete(path: str | PurePath, found: Match, config: str = "") -> None:
    """Refuse incomplete weights, whose evaluation would be meaningless.

    Args:
        config: YAML of the config that d2ext wrote into the file, if there is one.
    Raises:
        WeightsError: some weights of the model are not in the file.
    """
    if not found.complete:
        raise WeightsError(
            f"{path}: does not hold all weights of this model; use the config that it was "
            f"trained with.{_origin(found, config)} {found.summary('; ')}"
        )


def _origin(found: Match, config: str) -> str:
    """Return a sentence about the model that a file is for, with a space before it, or ""."""
    trained = re.search(r"^ *META_ARCHITECTURE: (\w+)$", config, re.MULTILINE)
    if trained:
        return (
            f" It was trained by d2ext with MODEL.META_ARCHITECTURE {trained[1]}; the config is in "
            "the file, and evaluation takes it where --config-file is left out."
        )
    family = describe_family(found.names())
    return f" {family}" if family else ""


def _listed(title: str, items: Sequence[str], shown: Sequence[str]) -> list[str]:
    return [f"{len(items)} {title}: {_some(shown)}"] if items else []


def _alike(names: Sequence[str]) -> list[str]:
    """Collapse names that differ only in digits: "blocks.*.bias (6)"."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"\d+", "*", name), []).append(name)
    return [f"{k} ({len(same)})" if len(same) > 1 else same[0] for k, same in groups.items()]


def _some(items: Sequence[str]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more if items else "none"
