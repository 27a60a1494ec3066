#!/usr/bin/env python
"""Print config keys with their defaults and meanings; `--help` shows examples."""

from d2ext.cli.entry_points import config

if __name__ == "__main__":
    config()
