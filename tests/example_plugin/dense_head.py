"""CenterHead: the cell at an object's centre predicts its class and box.

Source: a simplification of Zhou et al., "Objects as Points", 2019, arXiv:1904.07850.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2ext.modeling.dense_heads import (
    DENSE_HEAD_REGISTRY,
    DenseHead,
    LevelPredictions,
    PostProcess,
    cell_centers,
    flatten_cells,
    head_options,
)
from d2ext.ops import sigmoid_focal_loss
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.structures import Instances


@dataclass
class CenterPredictions:
    """Raw outputs, per level.

    Attributes:
        locations: (A, 2) XY centres of the cells, in pixels.
        logits: (B, A, classes).
        boxes: (B, A, 4) offsets of the centre and log size, in strides.
    """

    locations: list[Tensor]
    logits: list[Tensor]
    boxes: list[Tensor]


@DENSE_HEAD_REGISTRY.register()
class CenterHead(DenseHead):
    """Class and box per cell.

    Args:
        input_shapes: shapes of the features by name.
        in_features: the one level to use.
        num_classes: number of classes, without background.
        postprocess: thresholds of the detections.
    """

    @configurable
    def __init__(
        self,
        *,
        input_shapes: dict[str, ShapeSpec],
        in_features: list[str],
        num_classes: int,
        postprocess: PostProcess,
    ) -> None:
        super().__init__()
        (self.in_feature,) = in_features
        shape = input_shapes[self.in_feature]
        self.num_classes, self.stride, self.postprocess = num_classes, shape.stride, postprocess
        self.cls_logits = nn.Conv2d(shape.channels, num_classes, 1)
        self.bbox_pred = nn.Conv2d(shape.channels, 4, 1)
        nn.init.constant_(self.cls_logits.bias, -4.6)  # a prior probability of 0.01

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shapes: dict[str, ShapeSpec]) -> dict:
        return head_options(cfg, cfg.MODEL.CENTER_HEAD, input_shapes)

    def forward(self, features: dict[str, Tensor]) -> CenterPredictions:
        level = features[self.in_feature]
        return CenterPredictions(
            [cell_centers(level, self.stride)],
            [flatten_cells(self.cls_logits(level), self.num_classes)],
            [flatten_cells(self.bbox_pred(level), 4)],
        )

    def criterion(
        self, predictions: CenterPredictions, instances: list[Instances]
    ) -> dict[str, Tensor]:
        """Compute the focal loss of all cells and the L1 loss of those at centres."""
        (points,), (logits,), (boxes,) = (
            predictions.locations,
            predictions.logits,
            predictions.boxes,
        )
        labels, errors = torch.zeros_like(logits), [boxes.sum() * 0]
        for image, objects in enumerate(instances):
            centers = objects.gt_boxes.get_centers()
            if not len(centers):
                continue
            cell = torch.cdist(centers, points).argmin(dim=1)
            labels[image, cell, objects.gt_classes] = 1
            sizes = objects.gt_boxes.tensor[:, 2:] - objects.gt_boxes.tensor[:, :2]
            wanted = torch.cat(
                ((centers - points[cell]) / self.stride, (sizes / self.stride).log()), dim=1
            )
            errors.append(F.l1_loss(boxes[image, cell], wanted, reduction="sum"))
        count = max(1, sum(len(objects) for objects in instances))
        focal = sigmoid_focal_loss(logits, labels, alpha=0.25, gamma=2.0, reduction="sum")
        return {"loss_cls": focal / count, "loss_box_reg": torch.stack(errors).sum() / count}

    def candidates(
        self, predictions: CenterPredictions, index: int
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        level = self.decode_dense(predictions.locations, predictions.logits, predictions.boxes)
        for boxes, scores in zip(level.boxes, level.scores, strict=True):
            cell, label = (scores[index] > 0).nonzero(as_tuple=True)
            best_scores, best = self.postprocess.topk(scores[index][cell, label])
            yield boxes[index][cell[best]], best_scores, label[best]

    def decode_dense(
        self, locations: list[Tensor], logits: list[Tensor], boxes: list[Tensor]
    ) -> LevelPredictions:
        """Decode every cell; the shapes depend on the input's alone, as export needs it."""
        decoded = []
        for points, level in zip(locations, boxes, strict=True):
            offsets, sizes = level.split(2, dim=-1)
            center, half = points + offsets * self.stride, sizes.exp() * self.stride / 2
            decoded.append(torch.cat((center - half, center + half), dim=-1))
        scores = [level.sigmoid() for level in logits]
        limit = self.postprocess.score_thresh
        return LevelPredictions(decoded, [torch.where(s > limit, s, 0.0) for s in scores])
