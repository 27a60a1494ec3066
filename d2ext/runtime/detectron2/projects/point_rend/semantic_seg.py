"""The semantic head of PointRend: coarse scores, rendered finer at their uncertain points."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY

from .mask_head import put_at_points
from .point_features import (
    get_uncertain_point_coords_on_grid,
    get_uncertain_point_coords_with_randomness,
    point_sample,
)
from .point_head import build_point_head

__all__ = ["PointRendSemSegHead", "calculate_uncertainty"]


def calculate_uncertainty(sem_seg_logits: Tensor) -> Tensor:
    """Return the second best score less the best one: (N, K, ...) -> (N, 1, ...)."""
    best, second = sem_seg_logits.topk(2, dim=1).values.unbind(1)
    return (second - best)[:, None]


@SEM_SEG_HEADS_REGISTRY.register()
class PointRendSemSegHead(nn.Module):
    """The head `MODEL.POINT_HEAD.COARSE_SEM_SEG_HEAD_NAME` and a point head.

    Args:
        input_shape: shapes of the feature maps by name.

    Raises:
        ValueError: the point head has another number of classes.
    """

    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
        super().__init__()
        point, head = cfg.MODEL.POINT_HEAD, cfg.MODEL.SEM_SEG_HEAD
        if head.NUM_CLASSES != point.NUM_CLASSES:
            raise ValueError(
                f"MODEL.POINT_HEAD.NUM_CLASSES is {point.NUM_CLASSES}, "
                f"MODEL.SEM_SEG_HEAD.NUM_CLASSES {head.NUM_CLASSES}: they have to be equal"
            )
        self.ignore_value: int = head.IGNORE_VALUE
        coarse = SEM_SEG_HEADS_REGISTRY.get(point.COARSE_SEM_SEG_HEAD_NAME)
        self.coarse_sem_seg_head = coarse(cfg, input_shape)
        self.in_features = point.IN_FEATURES
        self.train_num_points: int = point.TRAIN_NUM_POINTS
        self.oversample_ratio: float = point.OVERSAMPLE_RATIO
        self.importance_sample_ratio: float = point.IMPORTANCE_SAMPLE_RATIO
        self.subdivision_steps: int = point.SUBDIVISION_STEPS
        self.subdivision_num_points: int = point.SUBDIVISION_NUM_POINTS
        channels = sum(input_shape[name].channels or 0 for name in self.in_features)
        self.point_head = build_point_head(cfg, ShapeSpec(channels=channels, width=1, height=1))

    def forward(
        self, features: Mapping[str, Tensor], targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Return no scores and losses in training, otherwise scores and no losses.

        Args:
            features: maps of the images by name.
            targets: (N, H, W) labels, in training.
        """
        coarse = self.coarse_sem_seg_head.layers(features)
        if not self.training:
            return self._rendered(features, coarse), {}
        assert targets is not None
        losses = self.coarse_sem_seg_head.losses(coarse, targets)
        losses["loss_sem_seg_point"] = self._point_loss(features, coarse, targets)
        return None, losses

    def _point_loss(
        self, features: Mapping[str, Tensor], coarse: Tensor, targets: Tensor
    ) -> Tensor:
        with torch.no_grad():
            points = get_uncertain_point_coords_with_randomness(
                coarse,
                calculate_uncertainty,
                self.train_num_points,
                self.oversample_ratio,
                self.importance_sample_ratio,
            )
            # Labels are not interpolated.
            labels = point_sample(
                targets[:, None].float(), points, mode="nearest", align_corners=False
            )
        logits = self._logits_at(features, coarse, points)
        return F.cross_entropy(logits, labels[:, 0].long(), ignore_index=self.ignore_value)

    def _logits_at(self, features: Mapping[str, Tensor], coarse: Tensor, points: Tensor) -> Tensor:
        fine = [
            point_sample(features[name], points, align_corners=False) for name in self.in_features
        ]
        scores = point_sample(coarse, points, align_corners=False)
        return self.point_head(torch.cat(fine, dim=1), scores)

    def _rendered(self, features: Mapping[str, Tensor], coarse: Tensor) -> Tensor:
        scores = coarse
        for _ in range(self.subdivision_steps):
            scores = F.interpolate(scores, scale_factor=2, mode="bilinear", align_corners=False)
            indices, points = get_uncertain_point_coords_on_grid(
                calculate_uncertainty(scores), self.subdivision_num_points
            )
            scores = put_at_points(scores, indices, self._logits_at(features, coarse, points))
        return scores
