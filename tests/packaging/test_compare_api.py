"""The comparison of two packages' public API."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "build_support" / "compare_api.py"


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compare_api", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def described(script: ModuleType, folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> dict:
    """The API of a package "toypackage" with one module, `code`, of that text."""
    package = folder / "toypackage"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "code.py").write_text(text)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(folder))
        try:
            return script.describe("toypackage")
        finally:
            for name in [name for name in sys.modules if name.startswith("toypackage")]:
                del sys.modules[name]


def test_what_the_second_package_lacks_is_listed(script, tmp_path, monkeypatch):
    first = (
        "class A(dict):\n    def f(self, x, y): ...\n    def g(self): ...\ndef h(): ...\n_no = 1\n"
    )
    second = "class A:\n    def f(self, x, *, z=1): ...\n"
    pair = [
        described(script, tmp_path / name, text, monkeypatch)
        for name, text in (("first", first), ("second", second))
    ]
    assert sorted(script.compare(*pair)) == [
        "differs toypackage.code:A.f: y",
        "differs toypackage.code:A: base dict",
        "missing toypackage.code:A.g",
        "missing toypackage.code:h",
    ]
    assert list(script.compare(pair[0], pair[0])) == []


def test_a_module_that_is_missing_hides_its_names(script):
    first = {"p": [], "p.m": [], "p.m:f": ["x"], "p.m:C": [], "p.m:C.g": []}
    assert list(script.compare(first, {"p": []})) == ["missing p.m"]
