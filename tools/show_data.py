#!/usr/bin/env python
"""Write a page about a data set; `--help` shows examples."""

from d2ext.cli.entry_points import show_data

if __name__ == "__main__":
    show_data()
