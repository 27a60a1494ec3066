#!/usr/bin/env python
"""Convert a data set to COCO, YOLO or Pascal VOC; `--help` shows examples."""

from d2ext.commands import convert_data

if __name__ == "__main__":
    convert_data()
