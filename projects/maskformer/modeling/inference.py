"""From the class and mask logits of queries to semantic, instance and panoptic segmentation.

Masks of all queries at full resolution would not fit into memory, so they are resized in chunks,
and only those of queries that can be seen in the result. Instances and panoptic segments are equal
bit by bit to those of all masks at once; semantic scores are sums, equal up to rounding.

Source: Cheng et al., "MaskFormer", 2021, arXiv:2107.06278, section 3.4; "Mask2Former", 2022,
arXiv:2112.01527, appendix A.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from detectron2.structures import BitMasks, Boxes, Instances

CHUNK_PIXELS = 2**23  # of masks that are resized together, at the larger of their two sizes
AREA_EPS = 1e-6  # of the mean score inside a mask, as published


@dataclass
class FoundMasks:
    """The predictions on one image.

    Attributes:
        logits: (Q, K + 1) class logits; the last class is "no object".
        masks: (Q, h, w) mask logits, which cover the padded image.
        padded_size: height and width of the padded image.
        image_size: height and width of the image in it.
    """

    logits: Tensor
    masks: Tensor
    padded_size: tuple[int, int]
    image_size: tuple[int, int]

    def chunks(self, queries: Tensor, size: tuple[int, int] | None) -> Iterator[tuple[Any, Tensor]]:
        """Yield slices of `queries` and their mask logits at the output size.

        Args:
            queries: (N,) indices.
            size: height and width of the output; None: of the padded image.
        """
        largest = max(_area(self.padded_size), _area(size or self.padded_size))
        step = max(1, CHUNK_PIXELS // largest)
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            yield part, self._resized(self.masks[queries[part]].float(), size)

    def _resized(self, masks: Tensor, size: tuple[int, int] | None) -> Tensor:
        masks = F.interpolate(masks[:, None], self.padded_size, mode="bilinear")
        return (masks if size is None else self.crop_and_resize(masks, size))[:, 0]

    def crop_and_resize(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Cut the padding off maps (N, C, H, W) and resize the rest to `size`."""
        height, width = self.image_size
        return F.interpolate(maps[:, :, :height, :width], size, mode="bilinear")


def semantic_scores(found: FoundMasks, size: tuple[int, int], resize_first: bool) -> Tensor:
    """Sum the masks of all queries, weighted by their class probabilities.

    Args:
        found: predictions on an image.
        size: height and width of the output.
        resize_first: masks are resized to the output before the sum, otherwise the sums are.
    Returns:
        (K, *size) float32, not normalised.
    """
    probabilities = found.logits.float().softmax(-1)[:, :-1]  # (Q, K)
    height, width = size if resize_first else found.padded_size
    scores = probabilities.new_zeros(probabilities.shape[1], height * width)
    queries = torch.arange(len(probabilities), device=scores.device)
    for part, masks in found.chunks(queries, size if resize_first else None):
        scores.addmm_(probabilities[part].mT, masks.flatten(1).sigmoid_())
    scores = scores.unflatten(1, (height, width))
    return scores if resize_first else found.crop_and_resize(scores[None], size)[0]


def instances(
    found: FoundMasks,
    size: tuple[int, int],
    topk: int,
    score_thresh: float,
    classes: Collection[int] | None = None,
) -> Instances:
    """Return the best pairs of a query and a class as instances, with masks and their boxes.

    The score is the class probability times the mean mask probability inside the mask.

    Args:
        found: predictions on an image.
        size: height and width of the output.
        topk: largest number of pairs, by class probability.
        score_thresh: least class probability.
        classes: those that are returned; None: all.
    """
    queries, labels, scores = _best_pairs(found.logits, topk, score_thresh)
    if classes is not None:
        kept = torch.isin(labels, labels.new_tensor([*classes]))
        queries, labels, scores = queries[kept], labels[kept], scores[kept]
    own, pair = queries.unique(return_inverse=True)  # a query may be there with several classes
    masks = torch.zeros(len(own), *size, dtype=torch.bool, device=own.device)
    quality = scores.new_zeros(len(own))
    for part, logits in found.chunks(own, size):
        inside = masks[part] = logits > 0
        total = (logits.sigmoid().flatten(1) * inside.flatten(1)).sum(1)
        quality[part] = total / (inside.flatten(1).sum(1) + AREA_EPS)
    result = Instances(size)
    result.pred_masks = masks[pair]
    result.pred_boxes = Boxes(BitMasks(masks).get_bounding_boxes().tensor.to(own.device)[pair])
    result.scores = scores * quality[pair]
    result.pred_classes = labels
    result.query = queries
    return result


def thing_classes(classes: Tensor, things: Collection[int]) -> Tensor:
    """Map classes of things and stuff to those that count things alone, as data sets name them."""
    return torch.searchsorted(classes.new_tensor(sorted(things)), classes)


def _best_pairs(logits: Tensor, topk: int, score_thresh: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the queries, classes and scores of the best (query, class) pairs."""
    scores = logits.float().softmax(-1)[:, :-1]
    best, index = scores.flatten().topk(min(topk, scores.numel()))
    kept = best >= score_thresh
    best, index = best[kept], index[kept]
    return index // scores.shape[1], index % scores.shape[1], best


def panoptic(
    found: FoundMasks,
    size: tuple[int, int],
    object_thresh: float,
    overlap_thresh: float,
    things: Collection[int],
    inside_only: bool,
) -> tuple[Tensor, list[dict[str, Any]]]:
    """Give each pixel to the query with the best product of class score and mask probability.

    Args:
        found: predictions on an image.
        size: height and width of the output.
        object_thresh: queries whose best class has no higher probability are left out.
        overlap_thresh: those that win less than this part of their own mask are left out.
        things: classes whose segments are kept apart; other classes have one segment each.
        inside_only: segments end at the border of their query's own mask (Mask2Former), otherwise
            they have all pixels that the query wins (MaskFormer).
    Returns:
        (*size) int32 ids, 0 where nothing is; and per segment "id", "category_id", "isthing".
    """
    scores, labels = found.logits.float().softmax(-1).max(-1)
    chosen = ((labels != found.logits.shape[1] - 1) & (scores > object_thresh)).nonzero()[:, 0]
    winner, inside, areas = _winners(found, size, chosen, scores[chosen])
    won = torch.bincount(winner[winner >= 0], minlength=len(chosen)).tolist()
    seen = winner.masked_fill(~inside, -1) if inside_only else winner
    visible = set(seen.unique().tolist())
    ids = [0] * (len(chosen) + 1)  # of each chosen query; the last one is of "no winner", -1
    segments: list[dict[str, Any]] = []
    stuff: dict[int, int] = {}
    for index, label in enumerate(labels[chosen].tolist()):
        if index not in visible or not areas[index] or won[index] / areas[index] < overlap_thresh:
            continue
        if label in stuff:
            ids[index] = stuff[label]
            continue
        ids[index] = len(segments) + 1
        if label not in things:
            stuff[label] = ids[index]
        segments.append({"id": ids[index], "category_id": label, "isthing": label in things})
    return torch.tensor(ids, dtype=torch.int32, device=seen.device)[seen], segments


def _winners(
    found: FoundMasks, size: tuple[int, int], chosen: Tensor, scores: Tensor
) -> tuple[Tensor, Tensor, list[int]]:
    """Find which of the N chosen queries wins each pixel.

    Returns:
        (*size) int64 positions in `chosen`, -1 if there is none; (*size) bool, True where a pixel
        lies inside the winner's own mask; the number of pixels of each own mask.
    """
    best = scores.new_full(size, -1.0)
    winner = torch.full(size, -1, device=scores.device)
    inside = torch.zeros(size, dtype=torch.bool, device=scores.device)
    areas: list[int] = []
    for part, masks in found.chunks(chosen, size):
        masks.sigmoid_()
        own = masks >= 0.5
        areas += own.flatten(1).sum(1).tolist()
        value, index = (masks * scores[part, None, None]).max(0)
        better = value > best  # of equal ones the first wins, as with all masks at once
        winner[better] = index[better] + part.start
        inside[better] = own.gather(0, index[None])[0][better]
        best = torch.maximum(best, value)
    return winner, inside, areas


def resizes_first(tasks: Sequence[str]) -> bool:
    """Return True if masks are resized to the output before anything else.

    Published models for semantic segmentation alone sum the masks first.
    """
    return set(tasks) != {"semantic"}


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]
