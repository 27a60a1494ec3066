"""Corners of rotated boxes, written apart from the package's own."""

import numpy as np


def corners_of(box):
    """(4, 2) of an XYWHA box, angle in degrees counter-clockwise as seen."""
    x, y, width, height, degrees = box
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    across, down = np.array([cos, -sin]) * width / 2, np.array([sin, cos]) * height / 2
    return np.array([x, y]) + np.array(
        [-across - down, across - down, across + down, down - across]
    )
