#!/usr/bin/env python
"""Compare models with their authors' code on reference cases; `--help` says how."""

from d2ext.cli.entry_points import parity

if __name__ == "__main__":
    parity()
