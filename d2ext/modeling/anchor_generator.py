"""Anchors of whole pixels, as torchvision's detectors have them.

Source: https://github.com/pytorch/vision, torchvision/models/detection/anchor_utils.py.
"""

from collections.abc import Sequence

from torch import Tensor

from detectron2.modeling.anchor_generator import ANCHOR_GENERATOR_REGISTRY, DefaultAnchorGenerator


@ANCHOR_GENERATOR_REGISTRY.register()
class RoundedAnchorGenerator(DefaultAnchorGenerator):
    """Detectron2's anchors with corners rounded to whole pixels around the centre."""

    def generate_cell_anchors(
        self,
        sizes: Sequence[float] = (32, 64, 128, 256, 512),
        aspect_ratios: Sequence[float] = (0.5, 1, 2),
    ) -> Tensor:
        """Return (sizes * ratios, 4) XYXY in pixels; halves are rounded to even."""
        return super().generate_cell_anchors(sizes, aspect_ratios).round()
