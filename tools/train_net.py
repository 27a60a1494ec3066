#!/usr/bin/env python
"""Train or evaluate a detector; `--help` shows examples."""

from d2ext.cli.entry_points import train

if __name__ == "__main__":
    train()
