#!/usr/bin/env python
"""Train or evaluate a detector; `--help` shows examples."""

from d2ext.engine.train import main
from d2ext.errors import exit_on_user_error

if __name__ == "__main__":
    exit_on_user_error(main)
