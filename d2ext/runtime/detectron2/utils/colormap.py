"""A fixed palette for drawing.

The first seven are MATLAB's default line colours, the others bright and dark primaries and greys.
"""

import random

import numpy as np

__all__ = ["colormap", "random_color", "random_colors"]

# Thousandths of red, green, blue.
_TABLE = """\
0 447 741, 850 325 98, 929 694 125, 494 184 556, 466 674 188, 301 745 933, 635 78 184,
300 300 300, 600 600 600, 1000 0 0, 1000 500 0, 749 749 0, 0 1000 0, 0 0 1000, 667 0 1000,
333 333 0, 333 667 0, 333 1000 0, 667 333 0, 667 667 0, 667 1000 0, 1000 333 0, 1000 667 0,
1000 1000 0, 0 333 500, 0 667 500, 0 1000 500, 333 0 500, 333 333 500, 333 667 500, 333 1000 500,
667 0 500, 667 333 500, 667 667 500, 667 1000 500, 1000 0 500, 1000 333 500, 1000 667 500,
1000 1000 500, 0 333 1000, 0 667 1000, 0 1000 1000, 333 0 1000, 333 333 1000, 333 667 1000,
333 1000 1000, 667 0 1000, 667 333 1000, 667 667 1000, 667 1000 1000, 1000 0 1000, 1000 333 1000,
1000 667 1000, 333 0 0, 500 0 0, 667 0 0, 833 0 0, 1000 0 0, 0 167 0, 0 333 0, 0 500 0, 0 667 0,
0 833 0, 0 1000 0, 0 0 167, 0 0 333, 0 0 500, 0 0 667, 0 0 833, 0 0 1000, 0 0 0, 143 143 143,
857 857 857, 1000 1000 1000
"""
_COLORS = np.array([row.split() for row in _TABLE.split(",")], dtype=np.float32) / 1000


def _checked(maximum: int) -> int:
    if maximum not in (1, 255):
        raise AssertionError(f"maximum is 255 or 1, got {maximum}")
    return maximum


def _ordered(colors: np.ndarray, rgb: bool) -> np.ndarray:
    return colors if rgb else colors[..., ::-1]


def colormap(rgb: bool = False, maximum: int = 255) -> np.ndarray:
    """Return (N, 3) float32, all colours, as RGB or BGR, in [0, maximum] of 255 or 1."""
    return _ordered(_COLORS * _checked(maximum), rgb)


def random_color(rgb: bool = False, maximum: int = 255) -> np.ndarray:
    """Return one random colour, (3,); see `colormap`."""
    return colormap(rgb, maximum)[np.random.randint(0, len(_COLORS))]


def random_colors(N: int, rgb: bool = False, maximum: int = 255) -> list[np.ndarray]:
    """Return N different random colours; see `colormap`."""
    chosen = random.sample(range(len(_COLORS)), N)
    return list(colormap(rgb, maximum)[chosen])
