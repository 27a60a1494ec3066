#!/usr/bin/env python
"""Convert a data set to COCO, YOLO or Pascal VOC; `--help` shows examples."""

from d2ext.cli.entry_points import convert_data

if __name__ == "__main__":
    convert_data()
