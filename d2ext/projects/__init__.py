"""One folder per paper. In a checkout they are in `projects/`, next to the package."""

from pathlib import Path

_checkout = Path(__file__).parents[2] / "projects"
if _checkout.is_dir():
    __path__.append(str(_checkout))
