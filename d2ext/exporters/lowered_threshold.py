"""A score threshold for models that detect nothing at their own, to compare their boxes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from d2ext.exporters.exporter import NMSExporter

# Candidates of the image that has most. The places of an exported R-CNN are limited, so a threshold
# of 0 would not give what the model gives.
FEWEST, MOST = 50, 100
STEPS = 40
NOISE = 8.0  # most that is added to a pixel value of 0 to 255


@torch.no_grad()
def lowered_threshold(exporter: NMSExporter, inputs: Sequence[Tensor]) -> float:
    """Return a score threshold that `FEWEST` to `MOST` candidates of some image pass, by bisection.

    Scores alone do not tell it: ATSS compares probabilities before it weighs them by centerness.

    Args:
        inputs: batches of (B, C, H, W) pixels; no image of them has more than `MOST` candidates.
    """
    outputs = [exporter.head(exporter.normalize(images)) for images in inputs]
    low, high = 0.0, exporter.postprocess.score_thresh
    for _ in range(STEPS):
        middle = (low + high) / 2
        with exporter.score_threshold(middle):
            count = max(_most_candidates(exporter, raw) for raw in outputs)
        if FEWEST <= count <= MOST:
            return middle
        low, high = (middle, high) if count > MOST else (low, middle)
    return high


def _most_candidates(exporter: NMSExporter, raw: dict[str, list[Tensor]]) -> int:
    """Return the number of candidates in the image of a batch that has most of them."""
    per_level = [(scores > 0).flatten(1).sum(1) for scores in exporter.decode(raw).scores]
    return int(torch.stack(per_level).sum(0).max())


def add_noise(pixels: Tensor) -> Tensor:
    """Add uniform noise to pixels in 0..255: cells of blank areas would score alike."""
    generator = torch.Generator().manual_seed(0)
    noise = NOISE * (2 * torch.rand(pixels.shape, generator=generator) - 1)
    return (pixels + noise).clamp(0, 255).to(pixels.dtype)
