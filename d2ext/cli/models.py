"""The command that lists published weights and fetches them ahead of time."""

import argparse
from collections.abc import Iterable, Sequence

from tabulate import tabulate

from d2ext.cli.parser import CommandParser
from d2ext.errors import ConfigError
from d2ext.model_zoo import ModelEntry, all_models, model_named
from d2ext.model_zoo.entry import TASKS
from d2ext.model_zoo.fetch import fetch, file_here
from d2ext.model_zoo.timm_models import timm_entries

EXAMPLES = """\
examples:
  {models}                       all published weights
  {models} mask r50              those with both words in name, family, task or config
  {models} --task keypoints
  {models} timm convnext         timm's, which are listed where a word is timm
  {models} --config              those of which d2ext has the model
  {models} get dyhead_swint      download now; a name may be cut where it stays the only one
  {models} get resnet50.a1_in1k  any model of timm, by timm's name

MODEL.WEIGHTS takes the same names. Files are kept in $D2EXT_CACHE/weights (~/.cache/d2ext/weights).
"""


def main(argv: Sequence[str] | None = None) -> None:
    """List, filter or fetch published weights.

    Raises:
        UserError: a name is unknown, or its file cannot be fetched.
    """
    args = argument_parser().parse_args(argv)
    if args.words == ["get"]:
        raise ConfigError("get: name the weights to fetch; without get the command lists them.")
    if args.words[:1] == ["get"]:
        for name in args.words[1:]:
            entry = model_named(name)
            print(f"{entry.name}: {fetch(entry)}")
        return
    entries = [*all_models(), *(timm_entries() if "timm" in args.words else [])]
    found = [entry for entry in entries if _wanted(entry, args)]
    print(_table(found) if found else "no published weights of that kind; d2ext-models lists all")


def argument_parser() -> CommandParser:
    """Build the argument parser of tools/models.py."""
    description = "List published weights, or fetch them: get NAME ..."
    parser = CommandParser("models", description, EXAMPLES)
    parser.add_argument("words", metavar="WORD", nargs="*", help="words to look for; or get NAME")
    parser.add_argument("--task", choices=TASKS, help="only weights for this task")
    parser.add_argument("--config", action="store_true", help="only models that d2ext has")
    parser.add_argument("--cached", action="store_true", help="only files that are here already")
    return parser


def _wanted(entry: ModelEntry, args: argparse.Namespace) -> bool:
    text = " ".join((entry.name, entry.family, entry.task, entry.config)).lower()
    return (
        all(word.lower() in text for word in args.words)
        and args.task in (None, entry.task)
        and (not args.config or bool(entry.config))
        and (not args.cached or file_here(entry) is not None)
    )


def _table(entries: Iterable[ModelEntry]) -> str:
    rows = [
        (e.name, e.task, e.published, _megabytes(e), _licence(e), e.config or e.backbone)
        for e in entries
    ]
    return tabulate(rows, ("name", "task", "published", "MB", "licence", "config or backbone"))


def _megabytes(entry: ModelEntry) -> str:
    return f"{entry.size / 1e6:.0f}" if entry.size else ""


def _licence(entry: ModelEntry) -> str:
    return entry.licence if entry.commercial else f"{entry.licence} (non-commercial)"
