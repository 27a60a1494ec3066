"""The module that is exported: images in, a tuple of tensors out."""

from typing import Any

import torch
from torch import Tensor, nn

from d2ext.errors import ConfigError
from d2ext.export.exporter import Exporter
from d2ext.export.suppression import keep_best
from d2ext.modeling.dense_heads import LevelPredictions

WHERE = ("inside", "none")
# Candidates per level where the model has no limit: the shapes of a graph are fixed, and more than
# these hardly ever pass the threshold.
MOST = 1000


def build_graph(exporter: Exporter, nms: str, decode: str, for_onnx: bool) -> "Graph":
    """The graph that ends after NMS, after decoding or at the head.

    Args:
        nms, decode: whether they are in the graph, one of `WHERE`.
        for_onnx: use operators that `d2ext.export.onnx_file` translates.
    Raises:
        ConfigError: NMS is wanted without decoding.
    """
    if decode == "none" and nms == "inside":
        raise ConfigError("--decode none leaves nothing for NMS: give --nms none with it.")
    if decode == "none":
        return RawOutputs(exporter)
    if nms == "none":
        return Candidates(exporter)
    return Detections(exporter, torch.ops.d2ext_export.keep_best if for_onnx else keep_best)


class Graph(nn.Module):
    """`forward` takes (B, 3, H, W) float32 pixels in 0..255, in the model's order of channels."""

    def __init__(self, exporter: Exporter) -> None:
        super().__init__()
        self.exporter = exporter

    @property
    def output_names(self) -> tuple[str, ...]:
        """Of what `forward` returns; after a call where they are the model's own."""
        raise NotImplementedError


class RawOutputs(Graph):
    """What the head predicts, over all levels; names and shapes are those of the exporter."""

    output_names: tuple[str, ...] = ()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        raw = self.exporter.head(self.exporter.normalize(images))
        self.output_names = tuple(raw)
        return tuple(_over_levels(name, levels) for name, levels in raw.items())


def _over_levels(name: str, levels: list[Tensor]) -> Tensor:
    """One tensor for all levels, which follow each other along the cells."""
    if name in ("anchors", "locations"):  # (A, ...), the same for all images
        return torch.cat(levels)
    if levels[0].ndim == 4:  # (B, C, H, W)
        return torch.cat([level.flatten(2) for level in levels], dim=2)
    return torch.cat(levels, dim=1)


class Candidates(Graph):
    """Every cell's box, (B, A, 4) XYXY in pixels, and its scores, (B, A, classes)."""

    output_names = ("boxes", "scores")

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        levels = self.exporter.decode(self.exporter.head(self.exporter.normalize(images)))
        return torch.cat(levels.boxes, dim=1), torch.cat(levels.scores, dim=1)


class Detections(Graph):
    """The best N after NMS: boxes (B, N, 4), scores (B, N) and classes (B, N) int64.

    Boxes are XYXY in pixels, inside the image. Where there are fewer, score 0 and class -1.
    """

    output_names = ("boxes", "scores", "classes")

    def __init__(self, exporter: Exporter, keep: Any) -> None:
        super().__init__(exporter)
        self.keep = keep

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        levels = self.exporter.decode(self.exporter.head(self.exporter.normalize(images)))
        postprocess = self.exporter.postprocess
        boxes, scores, classes = best_of_levels(levels, postprocess.topk_candidates or MOST)
        num_classes = levels.scores[0].shape[-1]
        keep = self.keep(boxes, scores, classes, num_classes, postprocess.nms_thresh)
        scores, index = padded_topk(torch.where(keep, scores, 0.0), postprocess.max_detections)
        boxes = boxes.gather(1, index.unsqueeze(-1).expand(-1, -1, 4))
        found = scores > 0
        if self.exporter.clip:
            boxes = clipped(boxes, *images.shape[-2:])
            found = found & (boxes[..., 2:] > boxes[..., :2]).all(-1)
        classes = torch.where(found, classes.gather(1, index), -1)
        return boxes * found.unsqueeze(-1), scores * found, classes


def clipped(boxes: Tensor, height: int, width: int) -> Tensor:
    """The part of (..., 4) XYXY boxes in an image of that size."""
    sides = [boxes[..., n].clamp(0, (width, height)[n % 2]) for n in range(4)]
    return torch.stack(sides, dim=-1)


def best_of_levels(levels: LevelPredictions, topk: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `topk` of each level: boxes (B, K, 4), scores (B, K) and classes (B, K)."""
    parts = []
    for boxes, scores in zip(levels.boxes, levels.scores, strict=True):
        best, index = padded_topk(scores.flatten(1), topk)
        cell, label = index // scores.shape[-1], index % scores.shape[-1]
        parts.append((boxes.gather(1, cell.unsqueeze(-1).expand(-1, -1, 4)), best, label))
    boxes, scores, classes = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    return boxes, scores, classes


def padded_topk(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` best of (B, S) scores and where they are; zeros where S is less."""
    # As many zeros as are wanted: a number that depends on the size would not be a constant.
    padded = torch.cat((scores, scores.new_zeros(scores.shape[0], count)), dim=1)
    best, index = padded.topk(count, dim=1)
    return best, index.clamp(max=scores.shape[1] - 1)
