"""Matching of masks: the cheapest assignment of an image's masks to its queries.

Source: Cheng et al., "MaskFormer", 2021, arXiv:2107.06278, section 3.2; "Mask2Former", 2022,
arXiv:2112.01527, section 3.3.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from d2ext.modeling.losses.point_sampling import (
    PointDraw,
    pixel_centers,
    random_points,
    sample_points,
)
from d2ext.modeling.matching.hungarian import assign
from d2ext.modeling.matching.mask_costs import (
    pairwise_cross_entropy,
    pairwise_dice,
    pairwise_focal,
)
from d2ext.modeling.set_prediction import Matches, at_least_float32
from d2ext.projects.maskformer.modeling.predictions import MaskPredictions, MaskTargets


@dataclass(frozen=True)
class MaskMatcher(ABC):
    """Matches by a weighted sum of the negative class probability, a mask cost and a dice cost.

    Attributes:
        class_weight, mask_weight, dice_weight: factors of the three costs.
    """

    class_weight: float
    mask_weight: float
    dice_weight: float

    @torch.no_grad()
    def __call__(self, predictions: MaskPredictions, targets: MaskTargets) -> Matches:
        """Match all layers, with one copy from the device to the host.

        Raises:
            UserError: a cost is not finite; the message names the layer and the image.
        """
        names = predictions.layer_names()
        with torch.autocast(targets.masks.device.type, enabled=False):
            cost = torch.cat(
                [
                    self._image_cost(predictions, image, *own)
                    for image, own in enumerate(_per_image(targets))
                ]
            )
        (matches,) = assign([cost], targets, [names])
        return matches

    @abstractmethod
    def mask_costs(self, logits: Tensor, masks: Tensor, name: str) -> tuple[Tensor, Tensor]:
        """Compute the mask and the dice cost of an image.

        Args:
            logits: (Q, h, w).
            masks: (T, H, W) bool.
            name: of the layer and the image, e.g. "final.0".
        Returns:
            (T, Q) each.
        """

    def _image_cost(
        self, predictions: MaskPredictions, image: int, classes: Tensor, masks: Tensor
    ) -> Tensor:
        """Compute the costs of an image's T targets in all layers: (T, L, Q)."""
        layers = []
        for layer, name in enumerate(predictions.layer_names()):
            logits = at_least_float32(predictions.logits[layer][image])
            own = at_least_float32(predictions.masks[layer][image])
            mask_cost, dice_cost = self.mask_costs(own, masks, f"{name}.{image}")
            probability = logits.softmax(-1)[:, classes].mT
            layers.append(
                self.mask_weight * mask_cost
                - self.class_weight * probability
                + self.dice_weight * dice_cost
            )
        return torch.stack(layers, 1)


@dataclass(frozen=True)
class DenseMaskMatcher(MaskMatcher):
    """MaskFormer's: focal cost on all pixels of the predicted mask; targets are resized to it."""

    def mask_costs(self, logits: Tensor, masks: Tensor, name: str) -> tuple[Tensor, Tensor]:
        expected = F.interpolate(masks[:, None].to(logits.dtype), logits.shape[-2:])
        pairs = logits.flatten(1), expected.flatten(1)
        return pairwise_focal(*pairs), pairwise_dice(*pairs)


@dataclass(frozen=True)
class PointMaskMatcher(MaskMatcher):
    """Mask2Former's: cross-entropy at random points that all masks of an image share.

    Attributes:
        num_points: number of points; 0: every pixel of the predicted masks, in place of chance.
        draw: draws them, by the names "match.LAYER.IMAGE".
    """

    num_points: int
    draw: PointDraw = random_points

    def mask_costs(self, logits: Tensor, masks: Tensor, name: str) -> tuple[Tensor, Tensor]:
        points = pixel_centers(logits)
        if self.num_points:
            points = self.draw(f"match.{name}", (1, self.num_points, 2), logits.device)
        (own,) = sample_points(logits[None], points)
        (expected,) = sample_points(masks[None].to(logits.dtype), points)
        return pairwise_cross_entropy(own, expected), pairwise_dice(own, expected)


def _per_image(targets: MaskTargets) -> list[tuple[Tensor, Tensor]]:
    """Return classes (T,) and masks (T, H, W) per image."""
    counts = targets.counts
    return [*zip(targets.classes.split(counts), targets.masks.split(counts), strict=True)]
