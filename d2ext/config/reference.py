"""Reference of all config keys: default and meaning, the comment beside the key in the source."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from d2ext._detectron2 import RUNTIME
from d2ext.config import defaults
from d2ext.config.load import get_cfg, leaves
from d2ext.config.paths import project_root
from d2ext.config.plugins import add_plugin

_DETECTRON2 = RUNTIME / "detectron2" / "config" / "default_values.py"


class KeyInfo(NamedTuple):
    """A config key.

    Args:
        key: its path, "MODEL.FPN.NORM".
        default: its value, as Python writes it.
        meaning: with the unit; "" where the source says none.
        source: "detectron2", "d2ext" or the project that adds it.
    """

    key: str
    default: str
    meaning: str
    source: str


def all_keys() -> list[KeyInfo]:
    """Return every key of Detectron2, d2ext and its projects, in the order of their names."""
    cfg = get_cfg()
    sources = {"detectron2": [_DETECTRON2], "d2ext": [Path(defaults.__file__)]}
    for folder in sorted(file.parent for file in project_root().glob("*/__init__.py")):
        add_plugin(cfg, f"d2ext.projects.{folder.name}", ())
        sources[folder.name] = sorted(folder.glob("*.py"))
    meanings: dict[str, tuple[str, str]] = {}
    for source, paths in sources.items():
        for path in paths:
            text = path.read_text(encoding="utf-8")
            meanings |= {key: (meaning, source) for key, meaning in comments_of_keys(text)}
    unknown = ("", "detectron2")
    return [
        KeyInfo(key, repr(value), *meanings.get(key, unknown)) for key, value in sorted(leaves(cfg))
    ]


def comments_of_keys(source: str) -> Iterator[tuple[str, str]]:
    """Yield keys and comments of Python source: `cfg.A.B = value` in functions, and dicts."""
    notes = _Comments(source)
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and re.fullmatch(r"add_(\w+_)?config", node.name):
            yield from _assigned(node, notes)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict):
            yield from _listed(node.value, "", notes)


class _Comments:
    """The comments of a source by line; those that have a line of their own belong to the next."""

    def __init__(self, source: str) -> None:
        self.beside: dict[int, str] = {}
        self.above: dict[int, str] = {}
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                alone = not token.line[: token.start[1]].strip()
                lines = self.above if alone else self.beside
                lines[token.start[0]] = token.string.lstrip("# ")

    def of(self, first: int, last: int) -> str:
        """Return the comment beside the lines `first` to `last`, or else the one above them."""
        for line in range(first, last + 1):
            if line in self.beside:
                return self.beside[line]
        words: list[str] = []
        while (first := first - 1) in self.above:
            words.insert(0, self.above[first])
        return " ".join(words)


def _assigned(function: ast.FunctionDef, notes: _Comments) -> Iterator[tuple[str, str]]:
    """Yield what a function such as `add_input_config(cfg)` assigns; it names sections once."""
    sections: dict[str, str] = {"cfg": ""}
    for node in function.body:
        if not isinstance(node, ast.Assign):
            continue
        paths = [path for target in node.targets for path in _paths(target, sections)]
        section = paths or _paths(node.value, sections)
        for target in node.targets:
            if isinstance(target, ast.Name) and section:
                sections[target.id] = f"{section[0]}."
        meaning = notes.of(node.lineno, node.end_lineno or node.lineno)
        yield from ((path, meaning) for path in paths)


def _paths(target: ast.expr, sections: dict[str, str]) -> list[str]:
    """Return the keys that an expression such as `cfg.A.B` or `a.B, a.C` stands for."""
    if isinstance(target, ast.Tuple):
        return [path for item in target.elts for path in _paths(item, sections)]
    words: list[str] = []
    while isinstance(target, ast.Attribute):
        words.insert(0, target.attr)
        target = target.value
    if not words or not isinstance(target, ast.Name) or target.id not in sections:
        return []
    return [sections[target.id] + ".".join(words)]


def _listed(tree: ast.Dict, section: str, notes: _Comments) -> Iterator[tuple[str, str]]:
    for key, value in zip(tree.keys, tree.values, strict=True):
        if not isinstance(key, ast.Constant):
            continue
        path = f"{section}{key.value!s}"
        if isinstance(value, ast.Dict):
            yield from _listed(value, f"{path}.", notes)
        else:
            yield path, notes.of(key.lineno, value.end_lineno or key.lineno)


def as_table(keys: Sequence[KeyInfo]) -> str:
    """Return a table in Markdown."""
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for key in keys:
        cells = (f"`{key.key}`", f"`{key.default}`", key.meaning)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)
