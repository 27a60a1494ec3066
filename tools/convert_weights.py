#!/usr/bin/env python
"""Convert a published checkpoint to the names of d2ext; `--help` shows examples."""

from d2ext.cli.entry_points import convert_weights

if __name__ == "__main__":
    convert_weights()
