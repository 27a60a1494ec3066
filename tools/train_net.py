#!/usr/bin/env python
"""Train or evaluate a detector; `--help` shows examples."""

from d2ext.commands import train

if __name__ == "__main__":
    train()
