"""What README and documentation say exists: commands, flags, recipes, keys, snippets and links."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest

from d2ext.config.reference import all_keys

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("projects/*/README.md")),
]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]
MODULES = {"train_net": "train"}  # others are named as their script
SCRIPTS = {"train": "train_net", "benchmark": "benchmark_models"}  # of commands named otherwise

pages = pytest.mark.parametrize("page", PAGES, ids=IDS)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8").replace("\\\n", " ")


def commands(text: str) -> list[tuple[str, list[str]]]:
    """Tool and arguments of each line that is a whole command, in blocks of code and in tables."""
    found = []
    lines = re.findall(r"(?m)^(?: {4}|)((?:python tools/|d2ext-).*)$", text)
    inline = re.findall(r"`((?:python tools/|d2ext-)[^`]*)`", text)
    for line in (*lines, *inline):
        words = shlex.split(line.split(" && ")[0], comments=True)
        if words[0] == "python":
            found.append((Path(words[1]).stem, words[2:]))
            continue
        tool = words[0].removeprefix("d2ext-").replace("-", "_")
        found.append((SCRIPTS.get(tool, tool), words[1:]))
    return [(tool, words) for tool, words in found if tool not in ("benchmark", "fuzz")]


@pages
def test_commands_take_the_arguments_that_are_shown(page):
    for tool, words in commands(text_of(page)):
        module = importlib.import_module(f"d2ext.cli.{MODULES.get(tool, tool)}")
        parser = module.argument_parser()
        required = {flag for action in parser._actions if action.required for flag in [action.dest]}
        if not words or set(words) <= set(parser._option_string_actions):
            continue  # a mention such as `d2ext-train --resume`
        try:
            parser.parse_args([word for word in words if word not in ("...", "|")])
        except SystemExit:
            flags = {word for word in words if word.startswith("--")}
            unknown = flags - set(parser._option_string_actions)
            assert not unknown, f"{tool} {words}: {unknown}"
            assert required, f"{tool} {words} cannot be parsed"


@pages
def test_recipes_that_are_named_exist(page):
    for name in re.findall(r"(?:configs|projects)/[\w/*{},.-]+\.ya?ml", text_of(page)):
        if "<" not in name and "MINE" not in name:
            assert list(ROOT.glob(re.sub(r"\{[^}]*\}", "*", name))), name


@pytest.fixture(scope="module")
def known_keys() -> set[str]:
    keys = {info.key for info in all_keys()}
    sections = {".".join(key.split(".")[:n]) for key in keys for n in range(1, key.count(".") + 1)}
    return keys | sections


@pages
def test_config_keys_that_are_named_exist(page, known_keys):
    shown = re.findall(
        r"`((?:MODEL|INPUT|SOLVER|TEST|DATASETS|DATALOADER)(?:\.[A-Z][A-Z0-9_]*)+)[` ]",
        text_of(page),
    )
    if page.name == "extending.md":  # its example adds keys of its own
        shown = [key for key in shown if "LITTLE" not in key and "COUNT" not in key]
    ends = {key[dot:] for key in known_keys for dot in (0, key.find("TEST.")) if dot >= 0}
    assert not sorted(set(shown) - ends)


@pages
def test_python_snippets_are_python(page):
    for block in re.findall(r"(?s)```python\n(.*?)```", page.read_text(encoding="utf-8")):
        ast.parse(block)


@pages
def test_links_to_files_lead_somewhere(page):
    generated = {"checks.md", "config_keys.md", "index.md"}
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text_of(page)):
        if "://" in target or target in generated or target.startswith("models/"):
            continue
        assert (page.parent / target).exists(), target
