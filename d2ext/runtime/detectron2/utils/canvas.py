"""An image with drawing primitives: text, boxes, lines, polygons, masks."""

import colorsys
import math
from collections.abc import Sequence
from typing import Any

import cv2
import matplotlib.colors as mplc
import matplotlib.figure as mplfigure
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Polygon, Rectangle

from .colormap import random_color
from .generic_mask import GenericMask

__all__ = ["Canvas", "Color", "VisImage"]

_SMALL_OBJECT_AREA_THRESH = 1000  # pixels at scale 1; labels are outside of smaller boxes
_LARGE_PIECE = 120000  # pixels; every component of this size gets a label

Color = Any  # whatever matplotlib takes for a colour


class VisImage:
    """An image to draw on.

    Args:
        img: (H, W, 3) RGB in [0, 255].
        scale: size of the drawing relative to the image.
    """

    def __init__(self, img: np.ndarray, scale: float = 1.0) -> None:
        self.img = img
        self.scale = scale
        self.width, self.height = img.shape[1], img.shape[0]
        self._setup_figure(img)

    def _setup_figure(self, img: np.ndarray) -> None:
        figure = mplfigure.Figure(frameon=False)
        self.dpi = figure.get_dpi()
        # 1e-2 pixels more, since matplotlib rounds down.
        width, height = self.width * self.scale + 1e-2, self.height * self.scale + 1e-2
        figure.set_size_inches(width / self.dpi, height / self.dpi)
        self.canvas = FigureCanvasAgg(figure)
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.axis("off")
        self.fig, self.ax = figure, axes
        self.reset_image(img)

    def reset_image(self, img: np.ndarray) -> None:
        """Replace the image below the drawing."""
        image = img.astype("uint8")
        self.ax.imshow(image, extent=(0, self.width, self.height, 0), interpolation="nearest")

    def save(self, filepath: str) -> None:
        """Save an image file in the format of the path's extension."""
        self.fig.savefig(filepath)

    def get_image(self) -> np.ndarray:
        """Return (H * scale, W * scale, 3) RGB uint8."""
        self.canvas.draw()
        return np.asarray(self.canvas.buffer_rgba())[:, :, :3].astype("uint8")


class Canvas:
    """Drawing primitives of `Visualizer`; every method returns the current `VisImage`.

    Args:
        img_rgb: (H, W, 3) RGB in [0, 255].
        scale: size of the drawing relative to the image.
        font_size_scale: size of the text relative to the default.
    """

    def __init__(
        self, img_rgb: np.ndarray, scale: float = 1.0, font_size_scale: float = 1.0
    ) -> None:
        self.img = np.asarray(img_rgb).clip(0, 255).astype(np.uint8)
        self.output = VisImage(self.img, scale=scale)
        side = math.sqrt(self.output.height * self.output.width)
        self._default_font_size = max(side // 90, 10 // scale) * font_size_scale

    def get_output(self) -> VisImage:
        """Return the drawing."""
        return self.output

    def draw_text(
        self,
        text: str,
        position: tuple[float, float],
        *,
        font_size: float | None = None,
        color: Color = "g",
        horizontal_alignment: str = "center",
        rotation: float = 0,
    ) -> VisImage:
        """Draw `text` on a dark background, its top at `position` (x, y), rotated in degrees."""
        size = font_size or self._default_font_size
        # Bright enough for the dark background.
        rgb = np.maximum(mplc.to_rgb(color), 0.2)
        rgb[np.argmax(rgb)] = max(0.8, rgb.max())
        self.output.ax.text(
            *position,
            text,
            size=size * self.output.scale,
            family="sans-serif",
            bbox={"facecolor": "black", "alpha": 0.8, "pad": 0.7, "edgecolor": "none"},
            verticalalignment="top",
            horizontalalignment=horizontal_alignment,
            color=rgb,
            zorder=10,
            rotation=rotation,
        )
        return self.output

    def draw_box(
        self,
        box_coord: Sequence[float],
        alpha: float = 0.5,
        edge_color: Color = "g",
        line_style: str = "-",
    ) -> VisImage:
        """Draw the outline of an XYXY box."""
        x0, y0, x1, y1 = (float(value) for value in box_coord)
        self.output.ax.add_patch(
            Rectangle(
                (x0, y0),
                x1 - x0,
                y1 - y0,
                fill=False,
                edgecolor=edge_color,
                linewidth=self._line_width() * self.output.scale,
                alpha=alpha,
                linestyle=line_style,
            )
        )
        return self.output

    def _line_width(self) -> float:
        return max(self._default_font_size / 4, 1)

    def draw_rotated_box_with_label(
        self,
        rotated_box: Sequence[float],
        alpha: float = 0.5,
        edge_color: Color = "g",
        line_style: str = "-",
        label: str | None = None,
    ) -> VisImage:
        """Draw the outline of an XYWHA box, its top side thicker, with a label at a corner."""
        x, y, width, height, angle = (float(value) for value in rotated_box)
        is_small = width * height < _SMALL_OBJECT_AREA_THRESH * self.output.scale
        line_width = self._line_width() if not is_small else max(self._line_width() / 2, 1)
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        halves = [(-width, height), (-width, -height), (width, -height), (width, height)]
        corners = [
            (x + (sin * dy + cos * dx) / 2, y + (cos * dy - sin * dx) / 2) for dx, dy in halves
        ]
        for index in range(4):
            (x0, y0), (x1, y1) = corners[index], corners[(index + 1) % 4]
            self.draw_line(
                [x0, x1],
                [y0, y1],
                color=edge_color,
                linestyle="--" if index == 1 else line_style,
                linewidth=line_width,
            )
        if label is not None:
            color = self._change_color_brightness(edge_color, brightness_factor=0.7)
            self.draw_text(label, corners[1], color=color, rotation=angle)
        return self.output

    def draw_circle(
        self, circle_coord: Sequence[float], color: Color, radius: float = 3
    ) -> VisImage:
        """Draw a filled circle at (x, y) with a radius in pixels."""
        self.output.ax.add_patch(
            Circle((circle_coord[0], circle_coord[1]), radius=radius, fill=True, color=color)
        )
        return self.output

    def draw_line(
        self,
        x_data: Sequence[float],
        y_data: Sequence[float],
        color: Color,
        linestyle: Any = "-",
        linewidth: float | None = None,
    ) -> VisImage:
        """Draw a line through points given by their x and y."""
        width = max(self._default_font_size / 3, 1) if linewidth is None else linewidth
        line = Line2D(
            x_data, y_data, linewidth=width * self.output.scale, color=color, linestyle=linestyle
        )
        self.output.ax.add_line(line)
        return self.output

    def draw_binary_mask(
        self,
        binary_mask: np.ndarray,
        color: Color = None,
        *,
        edge_color: Color = None,
        text: str | None = None,
        alpha: float = 0.5,
        area_threshold: float = 10,
    ) -> VisImage:
        """Draw a mask.

        Args:
            binary_mask: (H, W) of 0 and 1, uint8.
            color: random by default.
            edge_color: colour of the outlines.
            text: text on the mask.
            alpha: opacity in [0, 1].
            area_threshold: outlines around fewer pixels are not drawn.
        """
        color = _rgb_or_random(color)
        mask = GenericMask(binary_mask.astype("uint8"), self.output.height, self.output.width)
        if mask.has_holes:
            self._overlay(mask.mask * alpha, color)
            drawn = True
        else:
            outlines = [outline.reshape(-1, 1, 2) for outline in mask.polygons]
            large = [
                outline
                for outline in outlines
                if cv2.contourArea(outline.astype(np.float32)) >= (area_threshold or 0)
            ]
            for outline in large:
                self.draw_polygon(outline[:, 0], color, edge_color=edge_color, alpha=alpha)
            drawn = bool(large)
        if text is not None and drawn:
            lighter = self._change_color_brightness(color, brightness_factor=0.7)
            self._draw_text_in_mask(mask.mask, text, lighter)
        return self.output

    def draw_soft_mask(
        self,
        soft_mask: np.ndarray,
        color: Color = None,
        *,
        text: str | None = None,
        alpha: float = 0.5,
    ) -> VisImage:
        """Draw an (H, W) mask of values in [0, 1], which scale its opacity."""
        color = _rgb_or_random(color)
        self._overlay(soft_mask * alpha, color)
        if text is not None:
            lighter = self._change_color_brightness(color, brightness_factor=0.7)
            self._draw_text_in_mask((soft_mask > 0.5).astype("uint8"), text, lighter)
        return self.output

    def _overlay(self, opacity: np.ndarray, color: tuple[float, float, float]) -> None:
        layer = np.empty((*opacity.shape, 4), dtype=np.float32)
        layer[..., :3], layer[..., 3] = color, opacity
        self.output.ax.imshow(layer, extent=(0, self.output.width, self.output.height, 0))

    def draw_polygon(
        self, segment: np.ndarray, color: Color, edge_color: Color = None, alpha: float = 0.5
    ) -> VisImage:
        """Draw a filled (N, 2) polygon; its outline is darker by default."""
        if edge_color is None:
            edge_color = color
            if alpha > 0.8:
                edge_color = self._change_color_brightness(color, brightness_factor=-0.7)
        self.output.ax.add_patch(
            Polygon(
                segment,
                fill=True,
                facecolor=(*mplc.to_rgb(color), alpha),
                edgecolor=(*mplc.to_rgb(edge_color), 1),
                linewidth=max(self._default_font_size // 15 * self.output.scale, 1),
            )
        )
        return self.output

    def _draw_text_in_mask(self, binary_mask: np.ndarray, text: str, color: Color) -> None:
        """Draw text in the middle of the largest component and of others that are large enough."""
        count, pieces, stats, _ = cv2.connectedComponentsWithStats(binary_mask, connectivity=8)
        areas = stats[1:, -1]
        for piece in range(1, count):
            if areas[piece - 1] == areas.max() or areas[piece - 1] > _LARGE_PIECE:
                center = np.median((pieces == piece).nonzero(), axis=1)[::-1]
                self.draw_text(text, tuple(center), color=color)

    def _change_color_brightness(
        self, color: Color, brightness_factor: float
    ) -> tuple[float, float, float]:
        """Change the brightness: lighter for a factor up to 1, darker down to -1; RGB in [0, 1]."""
        if not -1.0 <= brightness_factor <= 1.0:
            raise AssertionError(f"brightness_factor is in [-1, 1], got {brightness_factor}")
        hue, lightness, saturation = colorsys.rgb_to_hls(*mplc.to_rgb(color))
        lightness = min(max(lightness * (1 + brightness_factor), 0.0), 1.0)
        red, green, blue = colorsys.hls_to_rgb(hue, lightness, saturation)
        return (min(max(red, 0.0), 1.0), min(max(green, 0.0), 1.0), min(max(blue, 0.0), 1.0))


def _rgb_or_random(color: Color) -> tuple[float, float, float]:
    """Return RGB in [0, 1]."""
    return mplc.to_rgb(random_color(rgb=True, maximum=1).tolist() if color is None else color)
