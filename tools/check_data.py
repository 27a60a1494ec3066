#!/usr/bin/env python
"""Find issues of a data set before it is trained on; `--help` shows examples."""

from d2ext.cli.entry_points import check_data

if __name__ == "__main__":
    check_data()
