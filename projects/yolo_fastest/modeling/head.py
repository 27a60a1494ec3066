"""The head of YOLO-FastestV2: three 1x1 convolutions shared by all levels.

Source: https://github.com/dog-qiuqiu/Yolo-FastestV2; there is no paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import box_convert

from d2ext.errors import ConfigError
from d2ext.modeling.dense_heads import DENSE_HEAD_REGISTRY, PostProcess
from d2ext.modeling.dense_heads.dense_head import head_options
from d2ext.modeling.init import prior_bias
from d2ext.projects.yolo_fastest.modeling.complete_iou import complete_iou
from d2ext.projects.yolo_fastest.modeling.decoding import RawLevel, detect, relative_boxes
from d2ext.projects.yolo_fastest.modeling.matching import Positives, match_cells
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes, Instances


@dataclass
class LevelTargets:
    """The targets of one level.

    Attributes:
        image: (P,) int64, index in the batch.
        anchor: (P,) int64, index of the anchor in its cell.
        cell: (P, 2) int64, column and row.
        classes: (P,) int64.
        boxes: (P, 4) centre, from the cell's corner, and size; in cells.
    """

    image: Tensor
    anchor: Tensor
    cell: Tensor
    classes: Tensor
    boxes: Tensor


@DENSE_HEAD_REGISTRY.register()
class YoloFastestHead(nn.Module):
    """Boxes from a level's box branch; objectness and classes from its class branch.

    Args:
        input_shapes: shapes of "<level>_class" and "<level>_box", finest level first.
        num_classes: classes, without background.
        anchors: per level, the same number of (width, height) in pixels of the network's input.
        match_ratio: an anchor learns a box if their sides differ by less than this factor.
        neighbor_reach: a neighbour of a box's cell learns it too if the centre is nearer to it
            than this, in cells; at most 0.5.
        box_weight: weight of the box loss.
        objectness_weight: weight of the objectness loss.
        objectness_balance: further factors of it, per level.
        class_weight: weight of the class loss.
        prior_prob: the objectness that training starts from.
        postprocess: the thresholds of detections; NMS takes every candidate.
    """

    anchors: Tensor

    @configurable
    def __init__(
        self,
        *,
        input_shapes: dict[str, ShapeSpec],
        num_classes: int,
        anchors: Sequence[Sequence[Sequence[float]]],
        match_ratio: float,
        neighbor_reach: float,
        box_weight: float,
        objectness_weight: float,
        objectness_balance: Sequence[float],
        class_weight: float,
        prior_prob: float,
        postprocess: PostProcess,
    ) -> None:
        super().__init__()
        self.levels = [n.removesuffix("_class") for n in input_shapes if n.endswith("_class")]
        _check_levels("ANCHORS", anchors, len(self.levels))
        _check_levels("OBJECTNESS_BALANCE", objectness_balance, len(self.levels))
        shapes = [input_shapes[f"{name}_class"] for name in self.levels]
        self.strides = [int(shape.stride or 0) for shape in shapes]
        self.num_classes = num_classes
        self.match_ratio, self.neighbor_reach = match_ratio, neighbor_reach
        self.box_weight, self.class_weight = box_weight, class_weight
        self.objectness_weights = [objectness_weight * part for part in objectness_balance]
        self.postprocess = postprocess
        self.register_buffer("anchors", torch.tensor(anchors, dtype=torch.float32), False)
        channels, count = int(shapes[0].channels or 0), self.anchors.shape[1]
        self.box = nn.Conv2d(channels, 4 * count, 1)
        self.objectness = nn.Conv2d(channels, count, 1)
        self.classes = nn.Conv2d(channels, num_classes, 1)
        nn.init.constant_(self.objectness.bias, prior_bias(prior_prob))

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shapes: dict[str, ShapeSpec]) -> dict:
        options = head_options(cfg, cfg.MODEL.YOLO_FASTEST, input_shapes)
        of_detector = "train_scales", "clip_boxes"
        return {name: value for name, value in options.items() if name not in of_detector}

    def forward(self, features: dict[str, Tensor]) -> list[RawLevel]:
        """Predict the raw outputs per level from the features of its two branches."""
        found = []
        for name in self.levels:
            about_class, about_box = features[f"{name}_class"], features[f"{name}_box"]
            objectness, classes = self.objectness(about_class), self.classes(about_class)
            found.append(RawLevel(self.box(about_box), objectness, classes))
        return found

    def losses(self, predictions: list[RawLevel], instances: list[Instances]) -> dict[str, Tensor]:
        """Compute the losses of a batch: means per level, summed over the levels.

        Args:
            instances: per image, with `gt_boxes` and `gt_classes`; an image may have none.
        Returns:
            "loss_box" (CIoU) and "loss_cls" of positives, "loss_obj" (objectness) of all anchors.
        """
        box, objectness, classes = [], [], []
        targets = self.targets(predictions, instances)
        levels = zip(predictions, targets, self.objectness_weights, strict=True)
        for level, (raw, wanted, weight) in enumerate(levels):
            box.append(self._box_loss(raw.box.float(), wanted, level))
            objectness.append(weight * _objectness_loss(raw.objectness.float(), wanted))
            classes.append(_class_loss(raw.classes.float(), wanted))
        return {
            "loss_box": self.box_weight * torch.stack(box).sum(),
            "loss_obj": torch.stack(objectness).sum(),
            "loss_cls": self.class_weight * torch.stack(classes).sum(),
        }

    @torch.no_grad()
    def targets(
        self, predictions: list[RawLevel], instances: list[Instances]
    ) -> list[LevelTargets]:
        """Assign the anchors of each level to the boxes of a batch."""
        boxes = box_convert(Boxes.cat([i.gt_boxes for i in instances]).tensor, "xyxy", "cxcywh")
        classes = torch.cat([i.gt_classes for i in instances])
        counts = torch.tensor([len(i) for i in instances], device=boxes.device)
        image = torch.arange(len(instances), device=boxes.device).repeat_interleave(counts)
        found = []
        for raw, anchors, stride in zip(predictions, self.anchors, self.strides, strict=True):
            rows, columns = raw.box.shape[-2:]
            own = boxes / stride
            match = match_cells(
                own, anchors / stride, (rows, columns), self.match_ratio, self.neighbor_reach
            )
            found.append(_level_targets(match, image, classes, own))
        return found

    def decode(
        self, predictions: list[RawLevel], image_sizes: Sequence[tuple[int, int]]
    ) -> list[Instances]:
        """Return the detections per image: `pred_boxes` in its pixels, `scores`, `pred_classes`.

        Args:
            image_sizes: (height, width) per image, without padding.
        """
        found = detect(predictions, self.anchors, self.strides, self.postprocess)
        return [
            Instances(size, pred_boxes=Boxes(boxes), scores=scores, pred_classes=classes)
            for size, (boxes, scores, classes) in zip(image_sizes, found, strict=True)
        ]

    def _box_loss(self, raw: Tensor, wanted: LevelTargets, level: int) -> Tensor:
        column, row = wanted.cell.unbind(1)
        found = raw.unflatten(1, (-1, 4))[wanted.image, wanted.anchor, :, row, column]
        if not len(found):
            return found.sum()
        centers, sizes = relative_boxes(found)
        sizes = sizes * (self.anchors[level] / self.strides[level])[wanted.anchor]
        return 1 - complete_iou(torch.cat((centers, sizes), dim=1), wanted.boxes).mean()


def _objectness_loss(raw: Tensor, wanted: LevelTargets) -> Tensor:
    column, row = wanted.cell.unbind(1)
    target = torch.zeros_like(raw)
    target[wanted.image, wanted.anchor, row, column] = 1
    return F.binary_cross_entropy_with_logits(raw, target)


def _class_loss(raw: Tensor, wanted: LevelTargets) -> Tensor:
    column, row = wanted.cell.unbind(1)
    logits = raw[wanted.image, :, row, column]
    if not len(logits):
        return logits.sum()
    return F.cross_entropy(logits, wanted.classes) / logits.shape[1]


def _level_targets(match: Positives, image: Tensor, classes: Tensor, boxes: Tensor) -> LevelTargets:
    chosen = boxes[match.target]
    inside = torch.cat((chosen[:, :2] - match.cell, chosen[:, 2:]), dim=1)
    return LevelTargets(
        image[match.target], match.anchor, match.cell, classes[match.target], inside
    )


def _check_levels(key: str, values: Sequence[object], levels: int) -> None:
    if len(values) != levels:
        raise ConfigError(
            f"MODEL.YOLO_FASTEST.{key}: {levels} levels need as many entries, not {len(values)}"
        )
