#!/usr/bin/env python
"""Write a page about a run; `--help` shows examples."""

from d2ext.cli.entry_points import report

if __name__ == "__main__":
    report()
