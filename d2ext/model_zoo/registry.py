"""The registry of published weights: those of models.yaml, of plugins, and timm's."""

import difflib
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from d2ext.errors import WeightsError
from d2ext.model_zoo.entry import TASKS, ModelEntry, PixelFormat
from d2ext.model_zoo.timm_models import timm_entries, timm_model
from d2ext.registry import ExtensionRegistry
from d2ext.tables import read_table

_DETECTRON2 = ("detectron2://", "https://dl.fbaipublicfiles.com/detectron2/")
_ADDED: ExtensionRegistry[str, ModelEntry] = ExtensionRegistry("published weights")


def register_model(entry: ModelEntry) -> None:
    """Register published weights, so that MODEL.WEIGHTS takes their name.

    A project calls it when it is imported.

    Raises:
        ValueError: the name is taken or not in lower case, or the task is unknown.
    """
    if entry.task not in TASKS or entry.name != _normalised(entry.name):
        raise ValueError(f"{entry.name!r}: a name in lower case, and a task of {', '.join(TASKS)}")
    if entry.name in _table():
        raise ValueError(f"published weights are registered as {entry.name!r} already")
    _ADDED.register(entry.name, entry)


def all_models() -> list[ModelEntry]:
    """Return all entries; timm's models are not among them, see `find_model`."""
    return [*_table().values(), *_ADDED.values()]


def find_model(name: str) -> ModelEntry | None:
    """Return the entry of a name; None if it is unknown.

    A name is that of an entry, or its beginning where no other entry begins so, or one of timm
    ("resnet50.a1_in1k"), with or without "timm/" before it.
    """
    wanted = _normalised(name)
    entries = {entry.name: entry for entry in all_models()}
    if wanted in entries:
        return entries[wanted]
    starting = [entry for each, entry in entries.items() if each.startswith(f"{wanted}_")]
    if len(starting) == 1:
        return starting[0]
    return timm_model(name.removeprefix("timm/"))


def model_named(name: str) -> ModelEntry:
    """Return the entry of a name, as `find_model`.

    Raises:
        WeightsError: the name is unknown; names similar ones.
    """
    found = find_model(name)
    if found is None:
        near = ", ".join(similar_names(name)) or "none"
        raise WeightsError(
            f"{name}: neither a file nor published weights of that name; similar names: {near}. "
            "`d2ext-models` lists them all."
        )
    return found


def model_of_url(url: str) -> ModelEntry | None:
    """Return the entry of an address, also as "detectron2://..."; None if there is none."""
    url = url.replace(*_DETECTRON2, 1)
    return next((entry for entry in all_models() if entry.url == url), None)


def similar_names(name: str, count: int = 5) -> list[str]:
    """Return the names that begin alike, else those whose beginning is spelt most similarly."""
    wanted, names = _normalised(name), [entry.name for entry in all_models()]
    starting = [each for each in names if each.startswith(wanted)]
    if starting:
        return starting[:count]
    names += [entry.name for entry in timm_entries()]
    beginnings: dict[str, list[str]] = {}
    for each in names:
        beginnings.setdefault(each[: len(wanted)], []).append(each)
    near = difflib.get_close_matches(wanted, beginnings, n=count)
    return [each for beginning in near for each in beginnings[beginning]][:count]


def _normalised(name: str) -> str:
    return name.lower().replace("-", "_")


@cache
def _table() -> dict[str, ModelEntry]:
    """Read the table of models.yaml."""
    families = read_table(__file__, "models.yaml")
    return {entry.name: entry for entry in _entries(families)}


def _entries(families: Iterable[dict[str, Any]]) -> Iterator[ModelEntry]:
    for family in families:
        models = family.pop("models")
        for model in models:
            facts = family | model
            pixels = facts.pop("pixels", None)
            yield ModelEntry(**facts, pixels=_pixels(pixels) if pixels else None)


def _pixels(facts: dict[str, Any]) -> PixelFormat:
    return PixelFormat(facts["format"], tuple(facts["mean"]), tuple(facts["std"]))
