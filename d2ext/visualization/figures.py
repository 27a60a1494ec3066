"""Common style of all figures; matplotlib without a display or global state."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from d2ext.files import replacing
from d2ext.visualization.fonts import families

INK, FAINT, GRID, PAPER = "#26262a", "#78787e", "#e4e4e0", "#fafaf8"
COLORS = ("#3b6fe0", "#e8663c", "#1f9e89", "#b565d9", "#d99a1c", "#d6457f", "#5a8f2f", "#6b7280")

_STYLE: Any = {
    "font.family": list(families()),
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # class names may contain "$"
    "axes.labelcolor": FAINT,
    "axes.edgecolor": GRID,
    "axes.facecolor": "white",
    "figure.facecolor": PAPER,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
}


@contextmanager
def figure(path: str | Path, width: float, height: float) -> Iterator[Figure]:
    """Open a figure of `width` x `height` inches that is saved to `path` at the block's end."""
    with rc_context(_STYLE), replacing(path) as temporary:
        drawn = Figure(figsize=(width, height), layout=_spacing())
        yield drawn
        FigureCanvasAgg(drawn)
        drawn.savefig(temporary, dpi=120)


class SvgFigure(Figure):
    """A figure whose SVG is in `content` after the block of `svg`."""

    content: bytes = b""


@contextmanager
def svg(width: float, height: float) -> Iterator[SvgFigure]:
    """Open a figure of `width` x `height` inches that becomes SVG at the block's end."""
    with rc_context(_STYLE):
        drawn = SvgFigure(figsize=(width, height), layout=_spacing())
        yield drawn
        content = io.BytesIO()
        FigureCanvasSVG(drawn).print_svg(content, metadata={"Date": None})
        drawn.content = content.getvalue()


def _spacing() -> ConstrainedLayoutEngine:
    return ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15, wspace=0.03, hspace=0.04)


def tidy(axes: Axes, title: str, grid: Literal["both", "x", "y"] = "both") -> None:
    """Set the title on the left, thin grid lines and no frame."""
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.grid(True, axis=grid, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0)


def shortened(name: str, longest: int) -> str:
    """Cut a name to `longest` characters, the last of them an ellipsis."""
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
