"""Fast R-CNN: classification and box regression per region (Girshick 2015, arXiv:1504.08083)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.config import configurable
from detectron2.layers import ShapeSpec, batched_nms, cat, cross_entropy
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import get_event_storage

from ..box_regression import Box2BoxTransform, Box2BoxTransformRotated, _dense_box_regression_loss

if TYPE_CHECKING:
    from detectron2.config import CfgNode

__all__ = ["FastRCNNOutputLayers", "fast_rcnn_inference"]

Predictions = tuple[Tensor, Tensor]


def fast_rcnn_inference(
    boxes: list[Tensor],
    scores: list[Tensor],
    image_shapes: list[tuple[int, int]],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[list[Instances], list[Tensor]]:
    """Select the best detections of each image after NMS within each class.

    Args:
        boxes: per image (Ri, classes * 4) XYXY, or (Ri, 4) if class-agnostic.
        scores: per image (Ri, classes + 1), the background last.
        image_shapes: (height, width) to which boxes are clipped.
        score_thresh: minimum score (exclusive) of a detection.
        nms_thresh: IoU threshold of NMS.
        topk_per_image: number of detections to keep; below 0 all.

    Returns:
        Per image `Instances` of `pred_boxes`, `scores` and `pred_classes`, best first, and the row
        of each in `boxes`.
    """
    found = [
        fast_rcnn_inference_single_image(b, s, size, score_thresh, nms_thresh, topk_per_image)
        for b, s, size in zip(boxes, scores, image_shapes, strict=True)
    ]
    return [instances for instances, _ in found], [rows for _, rows in found]


def fast_rcnn_inference_single_image(
    boxes: Tensor,
    scores: Tensor,
    image_shape: tuple[int, int],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[Instances, Tensor]:
    """Select the best detections of one image; see `fast_rcnn_inference`."""
    candidates, scores, classes, rows = candidate_detections(boxes, scores, score_thresh, 4)
    clipped = Boxes(candidates)
    clipped.clip(image_shape)
    keep = batched_nms(clipped.tensor, scores, classes, nms_thresh)
    if topk_per_image >= 0:
        keep = keep[:topk_per_image]
    found = Instances(image_shape)
    found.pred_boxes = clipped[keep]
    found.scores = scores[keep]
    found.pred_classes = classes[keep]
    return found, rows[keep]


def candidate_detections(
    boxes: Tensor, scores: Tensor, score_thresh: float, box_dim: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Select boxes (K, box_dim), scores, classes and rows (K,) above the threshold.

    Non-finite rows are dropped. Arguments are those of `fast_rcnn_inference_single_image`.
    """
    finite = boxes.isfinite().all(dim=1) & scores.isfinite().all(dim=1)
    # The last column is the background.
    candidates = (scores[:, :-1] > score_thresh) & finite[:, None]
    rows, classes = candidates.nonzero().unbind(1)
    sets = boxes.unflatten(1, (-1, box_dim))
    chosen = sets[rows, classes] if sets.shape[1] > 1 else sets[rows, 0]
    return chosen, scores[rows, classes], classes, rows


def _log_classification_stats(
    pred_logits: Tensor, gt_classes: Tensor, prefix: str = "fast_rcnn"
) -> None:
    """Log the accuracies of all and of foreground regions, and the false negatives.

    Args:
        pred_logits: (R, classes + 1), the background last.
        gt_classes: (R,).
    """
    if gt_classes.numel() == 0:
        return
    predicted, background = pred_logits.argmax(dim=1), pred_logits.shape[1] - 1
    foreground = (gt_classes >= 0) & (gt_classes < background)
    right, missed = predicted == gt_classes, predicted == background
    stats = {"cls_accuracy": right.float().mean()}
    if foreground.any():
        stats["fg_cls_accuracy"] = right[foreground].float().mean()
        stats["false_negative"] = missed[foreground].float().mean()
    storage = get_event_storage()
    for name, value in stats.items():
        storage.put_scalar(f"{prefix}/{name}", value.item())


class FastRCNNOutputLayers(nn.Module):
    """Two linear predictors, for classes and for boxes, with their losses and decoding.

    Args:
        input_shape: channels of a region's features, and their height and width if any.
        box2box_transform: box transform between proposals and boxes.
        num_classes: number of classes without the background.
        test_score_thresh, test_nms_thresh, test_topk_per_image: as in `fast_rcnn_inference`.
        cls_agnostic_bbox_reg: predict one box for all classes.
        smooth_l1_beta, box_reg_loss_type: of the box loss: "smooth_l1", "giou", "diou" or "ciou".
        loss_weight: weight of both losses, or of each by name.
        use_fed_loss: federated loss (Zhou et al. 2021, arXiv:2103.07461): only a random sample of
            the classes without ground truth is used. Requires `use_sigmoid_ce`.
        use_sigmoid_ce: sigmoid instead of softmax classification.
        get_fed_loss_cls_weights: returns (num_classes,) sampling weights of the classes.
        fed_loss_num_classes: number of classes in the loss, those with ground truth included.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        box2box_transform: Box2BoxTransform | Box2BoxTransformRotated,
        num_classes: int,
        test_score_thresh: float = 0.0,
        test_nms_thresh: float = 0.5,
        test_topk_per_image: int = 100,
        cls_agnostic_bbox_reg: bool = False,
        smooth_l1_beta: float = 0.0,
        box_reg_loss_type: str = "smooth_l1",
        loss_weight: float | dict[str, float] = 1.0,
        use_fed_loss: bool = False,
        use_sigmoid_ce: bool = False,
        get_fed_loss_cls_weights: Callable[[], Tensor] | None = None,
        fed_loss_num_classes: int = 50,
    ) -> None:
        super().__init__()
        if isinstance(input_shape, int):  # older code passes the number of channels
            input_shape = ShapeSpec(channels=input_shape)
        size = cast(int, input_shape.channels)
        size *= (input_shape.width or 1) * (input_shape.height or 1)
        sets = 1 if cls_agnostic_bbox_reg else num_classes
        self.num_classes = num_classes
        self.cls_score = nn.Linear(size, num_classes + 1)
        self.bbox_pred = nn.Linear(size, sets * len(box2box_transform.weights))
        # The published initialisation of Fast R-CNN.
        for layer, std in [(self.cls_score, 0.01), (self.bbox_pred, 0.001)]:
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
        self.box2box_transform = box2box_transform
        # Inference
        self.test_score_thresh, self.test_nms_thresh = test_score_thresh, test_nms_thresh
        self.test_topk_per_image = test_topk_per_image
        # Losses
        self.box_reg_loss_type, self.smooth_l1_beta = box_reg_loss_type, smooth_l1_beta
        if not isinstance(loss_weight, Mapping):
            loss_weight = {"loss_cls": loss_weight, "loss_box_reg": loss_weight}
        self.loss_weight = loss_weight
        self.use_fed_loss, self.use_sigmoid_ce = use_fed_loss, use_sigmoid_ce
        self.fed_loss_num_classes = fed_loss_num_classes
        if use_fed_loss:
            self._keep_class_weights(get_fed_loss_cls_weights)

    def _keep_class_weights(self, get_weights: Callable[[], Tensor] | None) -> None:
        if not self.use_sigmoid_ce or get_weights is None:
            raise ValueError("the federated loss needs use_sigmoid_ce and class weights")
        weights = get_weights()
        if len(weights) != self.num_classes:
            raise ValueError(f"{len(weights)} class weights for {self.num_classes} classes")
        self.register_buffer("fed_loss_cls_weights", weights, persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        section = cfg.MODEL.ROI_BOX_HEAD
        return {
            "input_shape": input_shape,
            "box2box_transform": Box2BoxTransform(weights=section.BBOX_REG_WEIGHTS),
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "cls_agnostic_bbox_reg": section.CLS_AGNOSTIC_BBOX_REG,
            "smooth_l1_beta": section.SMOOTH_L1_BETA,
            "test_score_thresh": cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST,
            "test_nms_thresh": cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST,
            "test_topk_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "box_reg_loss_type": section.BBOX_REG_LOSS_TYPE,
            "loss_weight": {"loss_box_reg": section.BBOX_REG_LOSS_WEIGHT},
            "use_fed_loss": section.USE_FED_LOSS,
            "use_sigmoid_ce": section.USE_SIGMOID_CE,
            "get_fed_loss_cls_weights": partial(_weights_of_classes, cfg),
            "fed_loss_num_classes": section.FED_LOSS_NUM_CLASSES,
        }

    def forward(self, x: Tensor) -> Predictions:
        """Predict logits (R, num_classes + 1) and deltas of features (R, channels, ...).

        The background is the last class; deltas are (R, num_classes * 4) or (R, 4).
        """
        x = x.flatten(1)
        return self.cls_score(x), self.bbox_pred(x)

    def losses(self, predictions: Predictions, proposals: list[Instances]) -> dict[str, Tensor]:
        """Compute "loss_cls" and "loss_box_reg".

        Args:
            predictions: output of `forward` for all proposals.
            proposals: per image with `proposal_boxes`, `gt_classes` and, unless all are
                background, `gt_boxes`.
        """
        logits, deltas = predictions
        none = torch.empty(0, dtype=torch.int64, device=logits.device)
        classes = cat([p.gt_classes for p in proposals]) if proposals else none
        _log_classification_stats(logits, classes)
        boxes, truth = _proposals_and_truth(proposals, deltas)
        if self.use_sigmoid_ce:
            class_loss = self.sigmoid_cross_entropy_loss(logits, classes)
        else:
            class_loss = cross_entropy(logits, classes, reduction="mean")
        losses = {
            "loss_cls": class_loss,
            "loss_box_reg": self.box_reg_loss(boxes, truth, deltas, classes),
        }
        return {name: loss * self.loss_weight.get(name, 1.0) for name, loss in losses.items()}

    def get_fed_loss_classes(
        self, gt_classes: Tensor, num_fed_loss_classes: int, num_classes: int, weight: Tensor
    ) -> Tensor:
        """Sample the classes of the federated loss: the true ones and random others.

        Args:
            gt_classes: (R,); if it has the background, `num_classes`, the result has it too.
            num_fed_loss_classes: size of the sample, unless there are more true classes.
            weight: (num_classes,) sampling weights of the other classes.
        """
        true = gt_classes.unique()
        missing = num_fed_loss_classes - len(true)
        if missing <= 0:
            return true
        chances = torch.zeros(num_classes + 1, device=true.device)
        chances[:num_classes] = weight
        # True classes are in the result already and must not be drawn again.
        chances[true] = 0
        return torch.cat([true, torch.multinomial(chances, missing, replacement=False)])

    def sigmoid_cross_entropy_loss(self, pred_class_logits: Tensor, gt_classes: Tensor) -> Tensor:
        """Compute binary cross entropy over all classes but the background, summed, over R.

        Args:
            pred_class_logits: (R, num_classes + 1).
            gt_classes: (R,).
        """
        if pred_class_logits.numel() == 0:
            return pred_class_logits.sum() * 0.0
        logits = pred_class_logits[:, :-1]
        one_hot = F.one_hot(gt_classes, self.num_classes + 1)[:, :-1].to(logits.dtype)
        loss = F.binary_cross_entropy_with_logits(logits, one_hot, reduction="none")
        if self.use_fed_loss:
            classes = self.get_fed_loss_classes(
                gt_classes,
                num_fed_loss_classes=self.fed_loss_num_classes,
                num_classes=self.num_classes,
                weight=cast(Tensor, self.fed_loss_cls_weights),
            )
            loss = loss[:, classes[classes < self.num_classes]]
        return loss.sum() / len(gt_classes)

    def box_reg_loss(
        self, proposal_boxes: Tensor, gt_boxes: Tensor, pred_deltas: Tensor, gt_classes: Tensor
    ) -> Tensor:
        """Compute the box loss of foreground proposals, summed and divided by R, all proposals.

        Thus each foreground proposal has the same weight, however many its image has.

        Args:
            proposal_boxes, gt_boxes: (R, box_dim).
            pred_deltas: (R, box_dim), or (R, num_classes * box_dim).
            gt_classes: (R,).
        """
        box_dim = proposal_boxes.shape[1]
        foreground = ((gt_classes >= 0) & (gt_classes < self.num_classes)).nonzero().flatten()
        deltas = pred_deltas.unflatten(1, (-1, box_dim))
        deltas = deltas[foreground, gt_classes[foreground] if deltas.shape[1] > 1 else 0]
        loss = _dense_box_regression_loss(
            [proposal_boxes[foreground]],
            self.box2box_transform,
            [deltas[None]],
            [gt_boxes[foreground]],
            torch.ones_like(foreground, dtype=torch.bool)[None],
            self.box_reg_loss_type,
            self.smooth_l1_beta,
        )
        # Over all proposals, not the foreground: so the loss has the scale of the class loss.
        return loss / max(gt_classes.numel(), 1)

    def inference(
        self, predictions: Predictions, proposals: list[Instances]
    ) -> tuple[list[Instances], list[Tensor]]:
        """Decode detections; see `fast_rcnn_inference`. The proposals have `proposal_boxes`."""
        return fast_rcnn_inference(
            self.predict_boxes(predictions, proposals),
            self.predict_probs(predictions, proposals),
            [p.image_size for p in proposals],
            self.test_score_thresh,
            self.test_nms_thresh,
            self.test_topk_per_image,
        )

    def predict_boxes_for_gt_classes(
        self, predictions: Predictions, proposals: list[Instances]
    ) -> list[Tensor]:
        """Decode the box of the true class per proposal, (Ri, box_dim) per image.

        For background proposals it is that of an arbitrary class. The proposals have
        `proposal_boxes` and `gt_classes`.
        """
        if not proposals:
            return []
        every = cat(self.predict_boxes(predictions, proposals))
        sets = every.unflatten(1, (-1, len(self.box2box_transform.weights)))
        # The background, class num_classes, has no box: any will do.
        classes = cat([p.gt_classes for p in proposals]).clamp(0, sets.shape[1] - 1)
        rows = torch.arange(len(sets), device=sets.device)
        return list(sets[rows, classes].split(_sizes(proposals)))

    def predict_boxes(self, predictions: Predictions, proposals: list[Instances]) -> list[Tensor]:
        """Decode boxes, (Ri, num_classes * box_dim) or (Ri, box_dim) per image."""
        if len(proposals) == 0:
            return []
        boxes = cat([p.proposal_boxes.tensor for p in proposals])
        decoded = self.box2box_transform.apply_deltas(predictions[1], boxes)
        return list(decoded.split(_sizes(proposals)))

    def predict_probs(self, predictions: Predictions, proposals: list[Instances]) -> list[Tensor]:
        """Compute class probabilities, (Ri, num_classes + 1) per image, the background last."""
        logits = predictions[0]
        probabilities = logits.sigmoid() if self.use_sigmoid_ce else logits.softmax(dim=-1)
        return list(probabilities.split(_sizes(proposals)))


def _sizes(proposals: list[Instances]) -> list[int]:
    # Unlike len(), the shape of a tensor stays in the graph while tracing.
    return [p.proposal_boxes.tensor.shape[0] for p in proposals]


def _proposals_and_truth(proposals: list[Instances], like: Tensor) -> tuple[Tensor, Tensor]:
    """Concatenate the boxes (R, box_dim) of all proposals and their matched ground truth."""
    if not proposals:
        empty = like.new_empty(0, 4)
        return empty, empty
    boxes = cat([p.proposal_boxes.tensor for p in proposals])
    if boxes.requires_grad:
        raise ValueError("proposals must not require gradients: detach them")
    # Images without ground truth have no gt_boxes; all their proposals are background.
    truth = [(p.gt_boxes if p.has("gt_boxes") else p.proposal_boxes).tensor for p in proposals]
    return boxes, cat(truth)


def _weights_of_classes(cfg: CfgNode) -> Any:
    from detectron2.data.detection_utils import get_fed_loss_cls_weights  # only this loss needs it

    return get_fed_loss_cls_weights(
        dataset_names=cfg.DATASETS.TRAIN,
        freq_weight_power=cfg.MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER,
    )
