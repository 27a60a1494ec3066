"""Hungarian matching: the cheapest assignment of an image's objects to its queries.

Source: Carion et al., "End-to-End Object Detection with Transformers", 2020, arXiv:2005.12872,
section 3.1; Zhu et al., "Deformable DETR", 2020, arXiv:2010.04159, appendix A.4 (focal cost).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from d2ext.errors import UserError
from d2ext.modeling.losses.boxes import cxcywh_to_xyxy, generalized_iou
from d2ext.modeling.set_prediction import Matches, SetPredictions, SetTargets, at_least_float32

LOG_EPS = 1e-8  # inside the logarithms of the published focal cost


class PerImage(Protocol):
    """Targets of B images: their number and the image's name for messages, per image."""

    counts: list[int]
    image_names: list[str]


@dataclass(frozen=True)
class HungarianMatcher:
    """Matches by a weighted sum of a class cost, the L1 distance and the negative GIoU.

    Attributes:
        class_weight, l1_weight, giou_weight: factors of the three costs.
        classification: "focal" (sigmoid scores) or "softmax", as the model is trained.
        focal_alpha, focal_gamma: parameters of the focal class cost.
        giou_eps: see `generalized_iou`.
    """

    class_weight: float
    l1_weight: float
    giou_weight: float
    classification: str = "focal"
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    giou_eps: float = 0.0

    @torch.no_grad()
    def __call__(self, predictions: Sequence[SetPredictions], targets: SetTargets) -> list[Matches]:
        """Match all layers of all predictions, with one copy from the device to the host.

        Raises:
            UserError: a cost is not finite; the message names the layer and the image.
        """
        costs = [self.cost(each, targets) for each in predictions]
        names = [each.layer_names() for each in predictions]
        return assign(costs, targets, names)

    def cost(self, predictions: SetPredictions, targets: SetTargets) -> Tensor:
        """Compute the cost of each target with each query of its own image: (T, L, Q) float32."""
        with torch.autocast(targets.boxes.device.type, enabled=False):
            image = targets.image_index()
            classes = targets.classes
            if predictions.class_agnostic:
                classes = torch.zeros_like(classes)
            boxes = at_least_float32(predictions.boxes)[:, image].transpose(0, 1)  # (T, L, Q, 4)
            own = targets.boxes[:, None, None]
            distance = (boxes - own).abs().sum(-1)
            giou = generalized_iou(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(own), self.giou_eps)
            class_cost = self._class_cost(at_least_float32(predictions.logits), image, classes)
            return (
                self.class_weight * class_cost + self.l1_weight * distance - self.giou_weight * giou
            )

    def _class_cost(self, logits: Tensor, image: Tensor, classes: Tensor) -> Tensor:
        """Compute the class cost from (L, B, Q, K) logits: (T, L, Q)."""
        if self.classification == "softmax":
            return -logits.softmax(-1)[:, image, :, classes]
        score = logits[:, image, :, classes].sigmoid()
        alpha, gamma = self.focal_alpha, self.focal_gamma
        positive = alpha * (1 - score) ** gamma * -(score + LOG_EPS).log()
        negative = (1 - alpha) * score**gamma * -(1 - score + LOG_EPS).log()
        return positive - negative


def assign(
    costs: Sequence[Tensor], targets: PerImage, names: Sequence[Sequence[str]]
) -> list[Matches]:
    """Solve the assignment of each image in each layer.

    Args:
        costs: of each group of layers, (T, L, Q), the targets of image after image.
        targets: their counts per image.
        names: of the layers of each group, for the message.
    Returns:
        For each group, min(Q, count) pairs per image.
    Raises:
        UserError: a cost is not finite; the message names the layer and the image.
    """
    sizes = [cost.numel() for cost in costs]
    flat = torch.cat([cost.flatten() for cost in costs]).cpu().numpy()  # the only copy to the host
    pieces = np.split(flat, np.cumsum(sizes)[:-1])
    solved = [
        _solve_layers(piece.reshape(cost.shape), targets, layers)
        for piece, cost, layers in zip(pieces, costs, names, strict=True)
    ]
    return _to_matches(solved, costs[0].device)


def _solve_layers(costs: np.ndarray, targets: PerImage, names: Sequence[str]) -> np.ndarray:
    """Return (1 + 2 L, M): the image, the queries of each layer and the targets of each layer."""
    starts = np.cumsum([0, *targets.counts])
    pairs: list[np.ndarray] = []
    for index, (start, end) in enumerate(pairwise(starts)):
        own = costs[start:end]
        _check_finite(own, index, targets, names)
        solved = [_solve(own[:, layer]) for layer in range(len(names))]
        queries = np.stack([query for query, _ in solved])
        chosen = np.stack([target + start for _, target in solved])
        pairs.append(np.concatenate((np.full_like(queries[:1], index), queries, chosen)))
    return np.concatenate(pairs, axis=1) if pairs else np.zeros((1 + 2 * len(names), 0), np.int64)


def _solve(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return queries, ascending, and their targets from the (targets, queries) cost."""
    target, query = linear_sum_assignment(cost)
    order = np.argsort(query)
    return query[order], target[order]


def _to_matches(solved: Sequence[np.ndarray], device: torch.device) -> list[Matches]:
    """Move the pairs of all groups to the device in one copy."""
    flat = torch.from_numpy(np.concatenate([rows.ravel() for rows in solved])).to(device)
    pieces = flat.split([rows.size for rows in solved])
    matches = []
    for piece, rows in zip(pieces, solved, strict=True):
        image, query, target = piece.view(rows.shape).split([1, len(rows) // 2, len(rows) // 2])
        matches.append(Matches(image[0], query, target))
    return matches


def _check_finite(costs: np.ndarray, image: int, targets: PerImage, names: Sequence[str]) -> None:
    bad = ~np.isfinite(costs).all(axis=(0, 2))
    if not bad.any():
        return
    layer = names[int(bad.argmax())].lstrip("_") or "final"
    name = targets.image_names[image]
    file = f" ({name})" if name else ""
    raise UserError(
        f"the matching cost of layer {layer} with the objects of image {image} of the batch{file} "
        "is not finite: the predictions have diverged, or a box of the image is not finite. Lower "
        "SOLVER.BASE_LR, enable SOLVER.CLIP_GRADIENTS, or look at this image's boxes."
    )
