#!/usr/bin/env python
"""Write a trained model as a file that runs without d2ext; `--help` shows examples."""

from d2ext.cli.entry_points import export

if __name__ == "__main__":
    export()
