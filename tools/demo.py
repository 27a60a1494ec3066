#!/usr/bin/env python
"""Find objects in images with a trained model; `--help` shows examples."""

from d2ext.cli.entry_points import demo

if __name__ == "__main__":
    demo()
