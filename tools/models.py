#!/usr/bin/env python
"""List published weights or fetch them; `--help` shows examples."""

from d2ext.cli.entry_points import models

if __name__ == "__main__":
    models()
