"""Matching and losses of boxes in space: focal for classes, weighted L1 for box codes.

Source: Wang et al., "DETR3D", 2021, arXiv:2110.06922, section 3.4.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from d2ext.modeling.losses.set_criterion import SetCriterion
from d2ext.modeling.matching.hungarian import HungarianMatcher
from d2ext.modeling.set_prediction import Matches, SetPredictions, SetTargets, at_least_float32
from d2ext.projects.detr3d.modeling.box_code import encode_boxes

MATCHED_NUMBERS = 8  # of the code; velocity is not matched
LOG_EPS = 1e-12  # inside the logarithms of the authors' focal cost


def space_targets(boxes: Tensor, classes: Tensor, name: str) -> SetTargets:
    """Build one sample's targets; boxes without a positive, finite size and place are left out.

    Args:
        boxes: (n, 9) as `encode_boxes` takes them; an unknown velocity is NaN.
        classes: (n,) int64.
        name: of the sample, for messages.
    Returns:
        Targets whose `boxes` are (n, 10) codes.
    """
    kept = boxes[:, :7].isfinite().all(1) & (boxes[:, 3:6] > 0).all(1)
    return SetTargets(classes[kept], encode_boxes(boxes[kept].float()), [int(kept.sum())], [name])


@dataclass(frozen=True)
class SpaceMatcher(HungarianMatcher):
    """Matches by the focal class cost and the L1 distance of codes; there is no IoU term."""

    @torch.no_grad()
    def cost(self, predictions: SetPredictions, targets: SetTargets) -> Tensor:
        """Compute the cost of each target with each query of its own sample: (T, L, Q) float32."""
        class_cost, box_cost = self.parts(predictions, targets)
        return class_cost + box_cost

    def parts(self, predictions: SetPredictions, targets: SetTargets) -> tuple[Tensor, Tensor]:
        """Compute the weighted class and box costs: (T, L, Q) each."""
        with torch.autocast(targets.boxes.device.type, enabled=False):
            index = targets.image_index()
            codes = at_least_float32(predictions.boxes)[:, index, :, :MATCHED_NUMBERS]
            own = targets.boxes[:, None, None, :MATCHED_NUMBERS]
            distance = (codes.transpose(0, 1) - own).abs().sum(-1)
            logits = at_least_float32(predictions.logits)
            class_cost = self._class_cost(logits, index, targets.classes)
            return self.class_weight * class_cost, self.l1_weight * distance

    def _class_cost(self, logits: Tensor, image: Tensor, classes: Tensor) -> Tensor:
        score = logits[:, image, :, classes].sigmoid()
        alpha, gamma = self.focal_alpha, self.focal_gamma
        positive = alpha * (1 - score) ** gamma * -(score + LOG_EPS).log()
        negative = (1 - alpha) * score**gamma * -(1 - score + LOG_EPS).log()
        return positive - negative


@dataclass(frozen=True)
class SpaceCriterion(SetCriterion):
    """Focal loss of all queries and L1 of matched codes, per decoder layer.

    Attributes:
        code_weights: factors of the ten numbers in the L1.
    """

    code_weights: Sequence[float] = (1.0,) * 8 + (0.2, 0.2)

    def _box_losses(
        self, group: SetPredictions, targets: SetTargets, pairs: Matches, divisor: Tensor
    ) -> dict[str, Tensor]:
        """Return the L1 of each layer, (L,); targets without a velocity count as a whole as 0."""
        layers = torch.arange(len(pairs.query), device=pairs.query.device)[:, None]
        codes = at_least_float32(group.boxes)[layers, pairs.image, pairs.query]  # (L, M, 10)
        expected = targets.boxes[pairs.target]
        known = expected.isfinite().all(-1, keepdim=True)
        # Not a product with the mask: NaN times 0 is NaN.
        apart = torch.where(known, codes - expected, torch.zeros_like(codes)).abs()
        weighted = apart * codes.new_tensor(self.code_weights)
        return {"loss_bbox": weighted.sum((1, 2)) / divisor}
