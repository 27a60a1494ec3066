"""The argument parser of all commands: short errors, config flags, KEY VALUE pairs anywhere."""

import argparse
import math
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from d2ext.text import did_you_mean

# Sections and single keys of Detectron2's config. Others, of plugins, must follow all flags.
_SECTIONS = "DATALOADER|DATASETS|GLOBAL|INPUT|LOGGING|MODEL|SOLVER|TEST"
_SINGLE = "AUTO|CUDNN_BENCHMARK|FLOAT32_PRECISION|OUTPUT_DIR|PLUGINS|SEED|VIS_PERIOD"
_CONFIG_KEY = re.compile(rf"({_SECTIONS})(\.\w+)+|{_SINGLE}")
_SCRIPTS = {
    "train_net": "d2ext-train",
    "benchmark_models": "d2ext-benchmark",
}  # the others are d2ext-<tool>


def program(tool: str) -> str:
    """Return the command line of a tool in the style of the running one: a script, or a file."""
    called = Path(sys.argv[0])
    if called.name.startswith("d2ext-"):
        return _SCRIPTS.get(tool, f"d2ext-{tool.replace('_', '-')}")
    in_tools = called.suffix == ".py" and called.parent.name == "tools"
    return f"python {shlex.quote(str((called.parent if in_tools else Path('tools')) / tool))}.py"


class CommandParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, with flags that set config keys.

    Config values, KEY VALUE pairs, may be anywhere among the flags; they are in `opts`, to
    which flags of `add_config_flag` are added.

    Args:
        tool: file name in `tools/` without its suffix.
        description: first line of the help.
        examples: last lines of the help; "{tool}" and names of other tools in braces, such as
            "{demo}", become the commands that run them.
    """

    def __init__(self, tool: str, description: str, examples: str) -> None:
        super().__init__(
            prog=program(tool),
            description=description,
            epilog=re.sub(r"\{(\w+)\}", lambda found: program(found[1]), examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self._config_keys: dict[str, tuple[str, str]] = {}  # destination -> flag, config key
        self._takes_opts = False
        self.add_argument(
            "--version",
            action=_Version,
            nargs=0,
            dest=argparse.SUPPRESS,
            default=argparse.SUPPRESS,
            help="print versions and exit",
        )

    def add_config_flag(
        self, flag: str, key: str, help: str, check: Callable[[str], str] = str
    ) -> None:
        """Add a flag that is short for a config key.

        Args:
            check: raises `argparse.ArgumentTypeError` for a value that cannot be right.
        """
        action = self.add_argument(flag, type=check, metavar=flag.strip("-").upper(), help=help)
        self._config_keys[action.dest] = flag, key

    def add_opts(self, help: str = "config values") -> None:
        """Add `opts`, the KEY VALUE pairs."""
        self.add_argument("opts", nargs="*", default=[], metavar="KEY VALUE", help=help)
        self._takes_opts = True

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse like argparse; options, positional words and KEY VALUE pairs may be mixed."""
        words = list(sys.argv[1:] if args is None else args)
        words, pairs = _split_pairs(words) if self._takes_opts else (words, [])
        if unknown := [word for word in words if word.startswith("--") and not self._knows(word)]:
            self.error(self._unknown(unknown))  # argparse names what it misses without it first
        found, unknown = self.parse_known_intermixed_args(words, namespace)
        if unknown:
            self.error(self._unknown(unknown))
        if self._takes_opts:
            found.opts = [*self._config_values(found, [*found.opts, *pairs]), *found.opts, *pairs]
        return found

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 and one line."""
        unknown = message.partition("unrecognized arguments: ")[2]
        text = self._unknown(unknown.split()) if unknown else message
        end = "" if text.endswith("?") else "."
        self.exit(2, f"error: {text}{end} --help lists the arguments.\n")

    def _config_values(self, found: argparse.Namespace, opts: Sequence[str]) -> list[str]:
        """Return KEY VALUE pairs for the config flags, and remove these from the namespace."""
        pairs: list[str] = []
        for destination, (flag, key) in self._config_keys.items():
            value = vars(found).pop(destination)
            if value is None:
                continue
            if key in opts[::2]:
                self.error(f"{flag} and {key} are the same setting: give one of them")
            pairs += [key, value]
        return pairs

    def _knows(self, flag: str) -> bool:
        """Return true for a flag, the beginning of one, and the "--" before positional words."""
        name = flag.partition("=")[0]
        options = (text for action in self._actions for text in action.option_strings)
        return any(text.startswith(name) for text in options)

    def _unknown(self, words: Sequence[str]) -> str:
        flag = next((word for word in words if word.startswith("-")), None)
        if flag is None:
            return f"unexpected argument {words[0]}"
        known = [text for action in self._actions for text in action.option_strings]
        hint = did_you_mean(flag.partition("=")[0], known, cutoff=0.5)
        return f"unknown flag {flag}{hint}".removesuffix(".")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        from importlib.metadata import PackageNotFoundError, version

        from d2ext import __version__
        from d2ext._detectron2 import provider

        try:
            torch = version("torch")
        except PackageNotFoundError:
            torch = "not installed"
        print(f"d2ext {__version__}, detectron2 {provider()}, torch {torch}")
        parser.exit(0)


def whole_number(text: str) -> str:
    """Check the text of a positive integer, or "auto"."""
    if text != "auto" and not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return text


def positive_number(text: str) -> str:
    """Check the text of a finite number above 0, or "auto"."""
    try:
        good = text == "auto" or 0 < float(text) < math.inf
    except ValueError:
        good = False
    if not good:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return text


def device_name(text: str) -> str:
    """Check the text of a device."""
    if not re.fullmatch(r"(cuda|mps|xpu)(:\d+)?|cpu", text):
        hint = f"; did you mean cuda:{text}?" if text.isdigit() else ""
        raise argparse.ArgumentTypeError(f"{text!r} is none of cuda, cuda:1, ..., cpu{hint}")
    return text


def count(text: str) -> int:
    """Parse a whole number from 0 on."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def _split_pairs(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate KEY VALUE pairs from all other words; flags would take them for their values."""
    rest, pairs = [], []
    remaining = iter(words)
    for word in remaining:
        if _CONFIG_KEY.fullmatch(word) and not os.path.exists(word):
            pairs += [word, *[next(remaining, None)]]
        else:
            rest.append(word)
    return rest, [word for word in pairs if word is not None]
