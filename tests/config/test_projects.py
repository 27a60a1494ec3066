import sys

import pytest

import d2ext.projects
from d2ext.config.projects import import_projects


@pytest.fixture
def projects(tmp_path, monkeypatch):
    """Two projects, one of which has a module `parity`."""
    monkeypatch.setattr(d2ext.projects, "__path__", [str(tmp_path)])
    for name in ("made_up_one", "made_up_two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / "made_up_one" / "parity.py").write_text("")
    yield
    for name in [name for name in sys.modules if "made_up_" in name]:
        del sys.modules[name]


def test_a_module_is_imported_of_every_project_that_has_it(projects):
    import_projects("parity")
    assert "d2ext.projects.made_up_one.parity" in sys.modules
    assert "d2ext.projects.made_up_two" in sys.modules
    assert "d2ext.projects.made_up_two.parity" not in sys.modules


def test_an_import_error_in_a_projects_module_is_raised(projects, tmp_path):
    (tmp_path / "made_up_two" / "parity.py").write_text("import no_such_module")
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        import_projects("parity")
