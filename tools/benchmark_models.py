#!/usr/bin/env python
"""Print AP and latency of models and exported files; `--help` shows examples."""

from d2ext.cli.entry_points import benchmark

if __name__ == "__main__":
    benchmark()
