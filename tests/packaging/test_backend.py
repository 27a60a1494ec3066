"""The requirements that the build backend returns to pip."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def backend():
    path = list(sys.path)
    spec = importlib.util.spec_from_file_location("backend", ROOT / "build_support/backend.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = path


@pytest.fixture
def nothing_installed(monkeypatch, backend):
    def version(name: str) -> str:
        raise backend.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(backend.importlib.metadata, "version", version)


@pytest.fixture
def installed(monkeypatch, backend, request):
    monkeypatch.setattr(backend.importlib.metadata, "version", request.param.__getitem__)


def names(requirements: list[str]) -> list[str]:
    return [requirement.split(">=")[0] for requirement in requirements]


@pytest.mark.parametrize(
    "installed", [{"torch": "2.10.0+cpu", "setuptools": "77.0.3"}], indirect=True
)
def test_nothing_is_required_if_all_is_installed(installed, backend):
    assert backend.get_requires_for_build_editable() == []
    assert backend.get_requires_for_build_wheel() == []
    assert backend.get_requires_for_build_sdist() == []


@pytest.mark.parametrize("installed", [{"torch": "2.9.1", "setuptools": "65.5.0"}], indirect=True)
def test_packages_that_are_too_old_are_required(installed, backend, monkeypatch):
    monkeypatch.setattr(backend, "_compiler", lambda: "/usr/bin/c++")
    monkeypatch.setattr(backend, "SPACE_FOR_PYTORCH", 0)
    assert names(backend.get_requires_for_build_wheel()) == ["setuptools", "torch"]


def test_required_pytorch_has_the_bound_of_pyproject(nothing_installed, backend, monkeypatch):
    monkeypatch.setattr(backend, "_compiler", lambda: "/usr/bin/c++")
    monkeypatch.setattr(backend, "SPACE_FOR_PYTORCH", 0)
    wanted = backend.get_requires_for_build_editable()
    assert f'"{wanted[-1]}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_pytorch_is_not_required_without_a_compiler(nothing_installed, backend, monkeypatch):
    monkeypatch.setattr(backend, "_compiler", lambda: None)
    assert names(backend.get_requires_for_build_wheel()) == ["setuptools"]


def test_pytorch_is_not_required_without_disk_space(nothing_installed, backend, monkeypatch):
    monkeypatch.setattr(backend, "_compiler", lambda: "/usr/bin/c++")
    monkeypatch.setattr(backend, "SPACE_FOR_PYTORCH", 2**60)
    assert names(backend.get_requires_for_build_wheel()) == ["setuptools"]


def test_a_source_archive_requires_no_pytorch(nothing_installed, backend):
    assert names(backend.get_requires_for_build_sdist()) == ["setuptools"]


def test_environment_path_ignores_pips_isolation(backend, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONNOUSERSITE", "1")
    folders = backend._environment_path()
    assert str(tmp_path) not in folders
    assert any((Path(folder) / "torch").is_dir() for folder in folders)
