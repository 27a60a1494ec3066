"""How large objects become in the model's input, beside its strides and anchors."""

from dataclasses import dataclass

import numpy as np

from d2ext.data.checks.subject import Floats, Subject


@dataclass(frozen=True)
class InputSize:
    """What a config makes of images and objects.

    Args:
        short_side: of images after resizing, pixels: the middle one of those in training.
        long_side: the most it may become, pixels; 0 for no limit.
        stride: of the finest feature map, pixels.
        anchor_sizes: square roots of the anchors' areas, pixels; () for a model without anchors.
        anchor_ratios: height by width.
    """

    short_side: int
    long_side: int
    stride: int
    anchor_sizes: tuple[float, ...] = ()
    anchor_ratios: tuple[float, ...] = ()

    def scales(self, sizes: Floats) -> Floats:
        """(N, 2) width and height of images -> (N,) times that they are enlarged."""
        short, long = sizes.min(1), sizes.max(1)
        scale = self.short_side / short
        return np.minimum(scale, self.long_side / long) if self.long_side else scale


def check_sizes(subject: Subject, model: InputSize) -> None:
    """Compare the objects, as large as the model sees them, with its strides and anchors."""
    numbers = np.flatnonzero(subject.usable & ~subject.crowd)
    if not len(numbers):
        return
    scales = model.scales(subject.frames[numbers])
    sides = subject.raw_boxes[numbers, 2:4] * scales[:, None]
    for number, (width, height) in zip(numbers.tolist(), sides.tolist(), strict=True):
        for code, limit in _problems(width, height, model):
            subject.add_object(code, number, f"{width:.1f} x {height:.1f} pixels, {limit}")


def _problems(width: float, height: float, model: InputSize) -> list[tuple[str, str]]:
    found = []
    side = (width * height) ** 0.5
    if side < model.stride:
        found.append(("object-below-stride", f"stride {model.stride}"))
    if not model.anchor_sizes:
        return found
    least, most = min(model.anchor_sizes), max(model.anchor_sizes)
    if side < least / 2:
        found.append(("object-below-anchors", f"smallest anchor {least:g}"))
    if side > most * 2:
        found.append(("object-above-anchors", f"largest anchor {most:g}"))
    ratio, ratios = height / width, model.anchor_ratios
    if ratios and not min(ratios) / 3 <= ratio <= max(ratios) * 3:
        found.append(("object-aspect", f"anchors from {min(ratios):g} to {max(ratios):g}"))
    return found
