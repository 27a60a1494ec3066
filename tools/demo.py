#!/usr/bin/env python
"""Find objects in images with a trained model; `--help` shows examples."""

from d2ext.engine.predict import main
from d2ext.errors import exit_on_user_error

if __name__ == "__main__":
    exit_on_user_error(main)
