"""The losses of mask classification: matched queries learn class and mask, others "no object".

Source: Cheng et al., "MaskFormer", 2021, arXiv:2107.06278, section 3.2; "Mask2Former", 2022,
arXiv:2112.01527, section 3.3.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from d2ext.modeling.losses import reduce_mean
from d2ext.modeling.losses.masks import dice_loss, mask_cross_entropy, mask_focal_loss
from d2ext.modeling.losses.point_sampling import (
    PointDraw,
    importance_points,
    pixel_centers,
    random_points,
    sample_points,
)
from d2ext.modeling.losses.set_criterion import no_object_cross_entropy
from d2ext.modeling.set_prediction import Matches, at_least_float32
from d2ext.projects.maskformer.modeling.matcher import MaskMatcher
from d2ext.projects.maskformer.modeling.predictions import MaskPredictions, MaskTargets


@dataclass(frozen=True)
class MaskCriterion(ABC):
    """Class, mask and dice losses of every layer, weighted as the matching costs are.

    Attributes:
        matcher: assigns targets to queries; has the weights.
        no_object_weight: weight of "no object" in the cross-entropy.
    """

    matcher: MaskMatcher
    no_object_weight: float

    def __call__(self, predictions: MaskPredictions, targets: MaskTargets) -> dict[str, Tensor]:
        """Compute the weighted losses: "loss_ce", "loss_mask", "loss_dice", "loss_ce_0", ..."""
        return self.losses(predictions, targets, self.matcher(predictions, targets))

    def losses(
        self, predictions: MaskPredictions, targets: MaskTargets, matches: Matches
    ) -> dict[str, Tensor]:
        """Compute the weighted losses of given matches; masks are averaged over their number."""
        total = torch.as_tensor(float(len(targets.classes)), device=targets.classes.device)
        num_masks = reduce_mean(total).clamp(min=1)
        losses: dict[str, Tensor] = {}
        with torch.autocast(targets.masks.device.type, enabled=False):
            class_losses = self._class_losses(predictions, targets, matches)
            names = predictions.layer_names()
            for layer, suffix in enumerate(predictions.loss_suffixes()):
                masks = predictions.masks[layer][matches.image, matches.query[layer]]
                expected = targets.masks[matches.target[layer]]
                mask_loss, dice = self.mask_losses(at_least_float32(masks), expected, names[layer])
                losses[f"loss_ce{suffix}"] = self.matcher.class_weight * class_losses[layer]
                mask_loss, dice = mask_loss.sum() / num_masks, dice.sum() / num_masks
                losses[f"loss_mask{suffix}"] = self.matcher.mask_weight * mask_loss
                losses[f"loss_dice{suffix}"] = self.matcher.dice_weight * dice
        return losses

    @abstractmethod
    def mask_losses(self, logits: Tensor, masks: Tensor, name: str) -> tuple[Tensor, Tensor]:
        """Compute the mask and the dice loss of matched pairs.

        Args:
            logits: (M, h, w).
            masks: (M, H, W) bool.
            name: of the layer, e.g. "final".
        Returns:
            (M,) each.
        """

    def _class_losses(
        self, predictions: MaskPredictions, targets: MaskTargets, matches: Matches
    ) -> Tensor:
        """Compute the class loss of each layer, (L,)."""
        logits = at_least_float32(predictions.logits)
        expected = logits.new_full(logits.shape[:-1], logits.shape[-1] - 1, dtype=torch.int64)
        layers = torch.arange(len(logits), device=logits.device)[:, None]
        expected[layers, matches.image, matches.query] = targets.classes[matches.target]
        return no_object_cross_entropy(logits, expected, self.no_object_weight)


@dataclass(frozen=True)
class DenseMaskCriterion(MaskCriterion):
    """MaskFormer's: focal and dice loss on all pixels of the targets."""

    def mask_losses(self, logits: Tensor, masks: Tensor, name: str) -> tuple[Tensor, Tensor]:
        own = F.interpolate(logits[:, None], masks.shape[-2:], mode="bilinear").flatten(1)
        expected = masks.flatten(1).to(own.dtype)
        return mask_focal_loss(own, expected), dice_loss(own, expected)


@dataclass(frozen=True)
class PointMaskCriterion(MaskCriterion):
    """Mask2Former's: cross-entropy and dice loss at points, most of them uncertain ones.

    Attributes:
        num_points: points per mask; 0: every pixel of the predicted masks.
        oversample_ratio: candidates per point.
        importance_ratio: share of the points that are the most uncertain candidates.
        draw: draws points, by the names "loss.LAYER.candidates" and "loss.LAYER.rest".
    """

    num_points: int
    oversample_ratio: float
    importance_ratio: float
    draw: PointDraw = random_points

    def mask_losses(self, logits: Tensor, masks: Tensor, name: str) -> tuple[Tensor, Tensor]:
        points = self.points(logits.detach(), name)
        own = sample_points(logits[:, None], points)[:, 0]
        # Labels are interpolated, not thresholded, as published.
        expected = sample_points(masks[:, None].to(logits.dtype), points)[:, 0]
        return mask_cross_entropy(own, expected), dice_loss(own, expected)

    @property
    def num_uncertain(self) -> int:
        """Number of points that are chosen from the candidates."""
        return int(self.importance_ratio * self.num_points)

    def points(self, logits: Tensor, name: str) -> Tensor:
        """Choose the points of each mask of a layer: (M, h, w) -> (M, num_points, 2)."""
        count, device = len(logits), logits.device
        if not self.num_points:
            return pixel_centers(logits).expand(count, -1, -1)
        num_candidates = int(self.num_points * self.oversample_ratio)
        candidates = self.draw(f"loss.{name}.candidates", (count, num_candidates, 2), device)
        num_rest = self.num_points - self.num_uncertain
        rest = self.draw(f"loss.{name}.rest", (count, num_rest, 2), device)
        return importance_points(logits, candidates, rest, self.num_uncertain)
