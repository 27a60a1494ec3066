"""The loss of set prediction: matched queries learn their object, all others "no object".

Source: Carion et al., "End-to-End Object Detection with Transformers", 2020, arXiv:2005.12872,
section 3.1 and appendix A.2; Lin et al., 2017, arXiv:1708.02002 (focal loss).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from d2ext.modeling.losses.boxes import cxcywh_to_xyxy, generalized_iou
from d2ext.modeling.losses.masks import dice_loss, mask_focal_loss
from d2ext.modeling.losses.reduce_mean import reduce_mean
from d2ext.modeling.matching.hungarian import HungarianMatcher
from d2ext.modeling.set_prediction import Matches, SetPredictions, SetTargets, at_least_float32
from d2ext.ops import sigmoid_focal_loss


@dataclass(frozen=True)
class SetCriterion:
    """Class, L1 and GIoU losses of every layer of every group of predictions.

    Attributes:
        matcher: assigns targets to queries; its `classification` also chooses the class loss.
        weights: factors of "loss_ce", "loss_bbox", "loss_giou", and with masks of "loss_mask" and
            "loss_dice".
        no_object_weight: weight of "no object" in the cross-entropy of softmax classification.
    """

    matcher: HungarianMatcher
    weights: Mapping[str, float] = field(
        default_factory=lambda: {"loss_ce": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0}
    )
    no_object_weight: float = 0.1

    def __call__(
        self, predictions: Sequence[SetPredictions], targets: SetTargets
    ) -> dict[str, Tensor]:
        """Compute the weighted losses, e.g. "loss_ce", "loss_ce_0", "loss_ce_enc"."""
        matches = self.match(predictions, targets)
        return self.weighted(self.losses(predictions, targets, matches))

    def weighted(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Multiply unweighted losses by the weight of their kind, e.g. of "loss_ce"."""
        return {
            name: loss * self.weights["_".join(name.split("_", 2)[:2])]
            for name, loss in losses.items()
        }

    def match(self, predictions: Sequence[SetPredictions], targets: SetTargets) -> list[Matches]:
        """Return the pairs of each group: those it has, otherwise by the matcher, all at once."""
        asked = [each for each in predictions if each.matches is None]
        found = iter(self.matcher(asked, targets) if asked else [])
        return [next(found) if each.matches is None else each.matches for each in predictions]

    def losses(
        self,
        predictions: Sequence[SetPredictions],
        targets: SetTargets,
        matches: Sequence[Matches],
    ) -> dict[str, Tensor]:
        """Compute the unweighted losses; the sums are divided by the mean number of boxes."""
        num_boxes = self.num_boxes(targets)
        losses: dict[str, Tensor] = {}
        with torch.autocast(targets.boxes.device.type, enabled=False):
            for group, pairs in zip(predictions, matches, strict=True):
                divisor = num_boxes * group.repeats
                terms = {
                    "loss_ce": self._class_loss(group, targets, pairs, divisor),
                    **self._box_losses(group, targets, pairs, divisor),
                }
                for index, suffix in enumerate(group.layer_names()):
                    losses |= {f"{name}{suffix}": values[index] for name, values in terms.items()}
                if group.masks is not None:
                    losses |= self._mask_losses(group.masks, targets, pairs, divisor)
        return losses

    @staticmethod
    def num_boxes(targets: SetTargets) -> Tensor:
        """Return the mean over processes of the number of boxes, at least 1."""
        total = torch.as_tensor(float(len(targets.boxes)), device=targets.boxes.device)
        return reduce_mean(total).clamp(min=1)

    def _class_loss(
        self, group: SetPredictions, targets: SetTargets, pairs: Matches, divisor: Tensor
    ) -> Tensor:
        """Return the class loss of each layer, (L,)."""
        logits = at_least_float32(group.logits)
        softmax = self.matcher.classification == "softmax"
        background = logits.shape[-1] - softmax
        expected = logits.new_full(logits.shape[:-1], background, dtype=torch.int64)
        classes = targets.classes[pairs.target]
        expected[_layers(pairs), pairs.image, pairs.query] = (
            torch.zeros_like(classes) if group.class_agnostic else classes
        )
        if softmax:
            return no_object_cross_entropy(logits, expected, self.no_object_weight)
        alpha, gamma = self.matcher.focal_alpha, self.matcher.focal_gamma
        sums = [
            sigmoid_focal_loss(*layer, alpha, gamma, "sum")
            for layer in zip(logits, expected, strict=True)
        ]
        return torch.stack(sums) / divisor

    def _box_losses(
        self, group: SetPredictions, targets: SetTargets, pairs: Matches, divisor: Tensor
    ) -> dict[str, Tensor]:
        """Return the L1 and the GIoU loss of each layer, (L,) each."""
        boxes = at_least_float32(group.boxes)[_layers(pairs), pairs.image, pairs.query]  # (L, M, 4)
        expected = targets.boxes[pairs.target]
        giou = generalized_iou(
            cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(expected), self.matcher.giou_eps
        )
        return {
            "loss_bbox": (boxes - expected).abs().sum((1, 2)) / divisor,
            "loss_giou": (1 - giou).sum(1) / divisor,
        }

    @staticmethod
    def _mask_losses(
        masks: Tensor, targets: SetTargets, pairs: Matches, divisor: Tensor
    ) -> dict[str, Tensor]:
        """Return the focal and the dice loss of the last layer, at the size of the targets."""
        assert targets.masks is not None
        expected = targets.masks[pairs.target[-1]]
        own = at_least_float32(masks[pairs.image, pairs.query[-1]])
        own = F.interpolate(own[:, None], expected.shape[-2:], mode="bilinear").flatten(1)
        expected = expected.flatten(1)
        return {
            "loss_mask": mask_focal_loss(own, expected).sum() / divisor,
            "loss_dice": dice_loss(own, expected).sum() / divisor,
        }


def _layers(pairs: Matches) -> Tensor:
    return torch.arange(len(pairs.query), device=pairs.query.device)[:, None]


def no_object_cross_entropy(logits: Tensor, expected: Tensor, no_object_weight: float) -> Tensor:
    """Compute the cross-entropy of each layer as a weighted mean over all queries: (L,).

    Args:
        logits: (L, B, Q, K); the last class is "no object".
        expected: (L, B, Q) int64 classes.
        no_object_weight: weight of queries whose class is "no object"; others weigh 1.
    """
    weights = logits.new_ones(logits.shape[-1])
    weights[-1] = no_object_weight
    loss = F.cross_entropy(logits.flatten(0, 2), expected.flatten(), weights, reduction="none")
    total = weights[expected].flatten(1).sum(1)
    return loss.view(len(logits), -1).sum(1) / reduce_mean(total)
