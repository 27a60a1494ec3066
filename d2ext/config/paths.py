"""Where the configs that come with d2ext are."""

from pathlib import Path


def config_root() -> Path:
    """`configs/` of the checkout, or the copy that a wheel carries inside the package."""
    package = Path(__file__).parents[1]
    checkout = package.parent / "configs"
    return checkout if (package.parent / "pyproject.toml").is_file() else package / "configs"
