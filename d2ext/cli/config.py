"""The config command: print config keys with their defaults and meanings."""

import fnmatch
from collections.abc import Sequence
from typing import TYPE_CHECKING

from d2ext.cli.parser import CommandParser
from d2ext.errors import ConfigError

if TYPE_CHECKING:
    from d2ext.config.reference import KeyInfo

EXAMPLES = """\
examples:
  {config} --keys MOSAIC
  {config} --keys "SOLVER.*"
  {config} --markdown

A pattern is a part of a key or of its meaning, in any case, or a glob for whole keys.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Print keys as the arguments say.

    Raises:
        ConfigError: no key fits the pattern.
    """
    args = argument_parser().parse_args(argv)
    # Imported once the arguments are known: --help and typing errors need no PyTorch.
    from d2ext.config.reference import all_keys, as_table

    found = [info for info in all_keys() if _fits(info, args.keys.lower())]
    if not found:
        raise ConfigError(f"--keys {args.keys}: no key or meaning has that in it.")
    if args.markdown:
        print(as_table(found))
        return
    for info in found:
        print(f"{info.key} = {info.default}" + (f"  # {info.meaning}" if info.meaning else ""))


def argument_parser() -> CommandParser:
    """Build the argument parser of tools/config.py."""
    parser = CommandParser("config", "Print config keys: default, meaning and unit.", EXAMPLES)
    parser.add_argument("--keys", default="", metavar="PATTERN", help="which ones (default: all)")
    parser.add_argument("--markdown", action="store_true", help="print a table in Markdown")
    return parser


def _fits(info: "KeyInfo", pattern: str) -> bool:
    key = info.key.lower()
    return pattern in key or pattern in info.meaning.lower() or fnmatch.fnmatchcase(key, pattern)
