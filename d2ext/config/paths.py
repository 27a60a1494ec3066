"""Where the configs that come with d2ext and its projects are."""

from pathlib import Path


def config_root() -> Path:
    """`configs/` of the checkout, or the copy that a wheel carries inside the package."""
    return _root() / "configs"


def project_root() -> Path:
    """`projects/` of the checkout, or the copy that a wheel carries inside the package."""
    return _root() / "projects"


def _root() -> Path:
    package = Path(__file__).parents[1]
    return package.parent if (package.parent / "pyproject.toml").is_file() else package
