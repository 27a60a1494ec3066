"""Folders of the configs that are shipped with d2ext and its projects."""

from pathlib import Path


def config_root() -> Path:
    """Return `configs/` of the checkout, or of the package in a wheel."""
    return _root() / "configs"


def project_root() -> Path:
    """Return `projects/` of the checkout, or of the package in a wheel."""
    return _root() / "projects"


def _root() -> Path:
    package = Path(__file__).parents[1]
    return package.parent if (package.parent / "pyproject.toml").is_file() else package
