"""Which package may import which, read from the sources without importing them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUNTIME = ROOT / "d2ext" / "runtime"

# A package may import packages of lower rank and its own modules, never one of equal rank.
RANKS = {
    "ops": 0,
    "tables": 0,
    "text": 0,
    "processes": 0,
    "errors": 1,
    "layers": 2,
    "files": 2,
    "registry": 2,
    "config": 3,
    "model_zoo": 3,
    "data": 4,
    "checkpoint": 4,
    "modeling": 5,
    "visualization": 5,
    "evaluation": 6,
    "exporters": 6,
    "parity": 6,
    "engine": 7,
    "pages": 7,
    "inference": 8,
    "projects": 9,
    "cli": 10,
    "api": 11,
}


def sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported, `from a import b` as a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = absolute(path, node)
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def absolute(path: Path, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    root = RUNTIME if path.is_relative_to(RUNTIME) else ROOT
    package = path.relative_to(root).with_suffix("").parts[: -node.level]
    return ".".join([*package, *filter(None, [node.module])])


def offences(paths: list[Path], forbidden) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in paths
        for line, name in imports(path)
        if forbidden(path, name)
    ]


def own_sources() -> list[Path]:
    """d2ext without the runtime, which has rules of its own."""
    return [p for p in sources(ROOT / "d2ext") if not p.is_relative_to(RUNTIME)]


def part_of(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == "d2ext" and len(parts) > 1 else None


def test_every_part_has_a_rank():
    own = {p.relative_to(ROOT / "d2ext").with_suffix("").parts[0] for p in own_sources()}
    assert own - {"__init__", "_detectron2"} == set(RANKS)


def test_imports_run_one_way():
    def upward(path: Path, name: str) -> bool:
        part = path.relative_to(ROOT / "d2ext").with_suffix("").parts[0]
        target = part_of(name)
        if part not in RANKS or target not in RANKS or target == part:
            return False
        return RANKS[target] >= RANKS[part]

    assert offences(own_sources(), upward) == []


def test_operators_and_layers_stand_on_torch_alone():
    def foreign(path: Path, name: str) -> bool:
        return name.split(".")[0] == "detectron2" or part_of(name) not in (None, "ops", "layers")

    paths = sources(ROOT / "d2ext" / "ops") + sources(ROOT / "d2ext" / "layers")
    assert offences(paths, foreign) == []


def test_the_runtime_does_not_know_d2ext():
    assert offences(sources(RUNTIME), lambda _, name: name.split(".")[0] == "d2ext") == []


def test_nothing_but_tools_and_tests_imports_a_project():
    def imports_a_project(path: Path, name: str) -> bool:
        return part_of(name) == "projects"

    paths = [p for p in own_sources() if p.parent.name != "projects"]
    assert offences(paths, imports_a_project) == []


def test_projects_do_not_import_each_other():
    def other(path: Path, name: str) -> bool:
        own = path.relative_to(ROOT / "projects").parts[0]
        return part_of(name) == "projects" and name.split(".")[2] != own

    assert offences(sources(ROOT / "projects"), other) == []


def imports_at_the_top(path: Path) -> set[str]:
    """Modules that are imported when the file is, not by its functions."""
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


def test_timm_is_imported_only_where_a_model_needs_it():
    # It takes seconds, with what it imports itself.
    tops = {path: imports_at_the_top(path) for path in sources(ROOT / "d2ext")}
    with_timm = [p for p, names in tops.items() if any(n.split(".")[0] == "timm" for n in names)]
    slow = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in with_timm}
    assert "d2ext.modeling.backbone.timm_layers" in slow
    assert [path for path, names in tops.items() if names & slow] == []


def test_only_the_public_detectron2_is_used():
    def private(path: Path, name: str) -> bool:
        parts = name.split(".")
        return parts[0] == "detectron2" and any(part.startswith("_") for part in parts)

    paths = own_sources() + sources(ROOT / "tools") + sources(ROOT / "projects")
    assert offences(paths, private) == []


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("import d2ext.ops", "d2ext.ops"),
        ("from d2ext import ops", "d2ext.ops"),
        ("from .flat_read import flat_read", "d2ext.ops.flat_read.flat_read"),
        ("from ..engine import train", "d2ext.engine.train"),
        ("def f():\n    from d2ext.engine import train", "d2ext.engine.train"),
    ],
)
def test_every_form_of_import_is_seen(line, name, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / "d2ext" / "ops" / "module.py"
    path.parent.mkdir(parents=True)
    path.write_text(line, encoding="utf-8")
    assert name in [found for _, found in imports(path)]
