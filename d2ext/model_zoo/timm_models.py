"""Weights that timm publishes, under its own names.

Their facts are a table here, since timm imports PyTorch, which takes seconds. timm itself is asked
where another version of it is installed and the table lacks a name.
"""

import csv
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from d2ext.model_zoo.entry import ModelEntry, PixelFormat

TABLE = Path(__file__).with_name("timm_models.csv")  # of build_support/timm_table.py
COLUMNS = ("name", "licence", "mean", "std", "url")
NON_COMMERCIAL = ("nc", "noncommercial", "amlr")  # words of licences that exclude commercial use


def timm_entries() -> list[ModelEntry]:
    """Return the entries of the table, by name."""
    return list(dict.fromkeys(_table().values()))


def timm_model(name: str) -> ModelEntry | None:
    """Return the entry of a name of timm, with its tag or without; None if timm has no weights."""
    found = _table().get(name)
    return found if found or _is_current() else _ask_timm(name)


def address_of_hub(repository: str, file: str = "model.safetensors") -> str:
    """Return the address of a file in a repository of Hugging Face."""
    return f"https://huggingface.co/{repository}/resolve/main/{file}"


def rgb(values: tuple[float, ...]) -> str:
    """Format a mean or deviation of 0 to 1 for the table, in units of 0 to 255."""
    return " ".join(f"{round(255 * value, 3):g}" for value in values)


@cache
def _table() -> dict[str, ModelEntry]:
    """Read the table: entries by name, and the first of an architecture by the name of that."""
    found: dict[str, ModelEntry] = {}
    with TABLE.open(encoding="utf-8", newline="") as file:
        next(file)
        for row in csv.DictReader(file):
            entry = _entry(**row)
            found.setdefault(entry.backbone, entry)
            found[entry.name] = entry
    return found


@cache
def _is_current() -> bool:
    """Return true if the installed timm, if any, is the one of the table."""
    with TABLE.open(encoding="utf-8") as file:
        of_table = file.readline().split()[-1]
    try:
        return version("timm") == of_table
    except PackageNotFoundError:
        return True


@cache
def _ask_timm(name: str) -> ModelEntry | None:
    from timm.models import get_pretrained_cfg

    facts = None
    with suppress(RuntimeError):  # timm's for an unknown tag
        facts = get_pretrained_cfg(name)
    if facts is None or not (facts.hf_hub_id or facts.url):
        return None
    url = str(facts.url or "")
    if facts.hf_hub_id:
        url = address_of_hub(facts.hf_hub_id, facts.hf_hub_filename or "model.safetensors")
    full = f"{facts.architecture}.{facts.tag}" if facts.tag else str(facts.architecture)
    return _entry(full, facts.license or "", rgb(facts.mean), rgb(facts.std), url)


def _entry(name: str, licence: str, mean: str, std: str, url: str) -> ModelEntry:
    return ModelEntry(
        name=name,
        family="timm",
        task="imagenet",
        licence=licence or "not stated",
        commercial=not set(NON_COMMERCIAL) & set(licence.lower().split("-")),
        url=url or address_of_hub(f"timm/{name}"),
        backbone=name.partition(".")[0],
        pixels=PixelFormat("RGB", _numbers(mean), _numbers(std)),
    )


def _numbers(text: str) -> tuple[float, float, float]:
    red, green, blue = map(float, text.split())
    return red, green, blue
