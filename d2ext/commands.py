"""The commands that `pip install` provides: `d2ext-train` and `d2ext-demo`, as in `tools/`."""

from typing import NoReturn

from d2ext.errors import exit_on_user_error


def train() -> NoReturn:
    """Train or evaluate a detector."""
    from d2ext.engine.train import main

    exit_on_user_error(main)


def demo() -> NoReturn:
    """Find objects in images."""
    from d2ext.engine.predict import main

    exit_on_user_error(main)
