from pathlib import Path

import pytest

from d2ext.registry import ExtensionRegistry
from d2ext.visualization import results
from d2ext.visualization.results import register_results_picture, save_results_picture


@pytest.fixture
def drawn(monkeypatch):
    """Calls of two registered drawers, by the name of the file that each draws."""
    monkeypatch.setattr(results, "_DRAWERS", ExtensionRegistry("picture of results"))
    calls = []
    for name in ("first.json", "last.json"):
        register_results_picture(name, lambda *given: calls.append(given))
    return calls


def test_the_file_registered_last_is_drawn(drawn, tmp_path):
    for name in ("first.json", "last.json"):
        (tmp_path / name).touch()
    save_results_picture("val", tmp_path, Path("val.jpg"), 4)
    assert drawn == [("val", tmp_path / "last.json", Path("val.jpg"), 4)]


def test_files_that_nobody_draws_leave_no_picture(drawn, tmp_path):
    (tmp_path / "other.json").touch()
    save_results_picture("val", tmp_path, Path("val.jpg"), 4)
    assert drawn == []
