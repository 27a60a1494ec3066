"""Keypoint heads: a softmax over a heat map per keypoint (He et al. 2017, arXiv:1703.06870)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.config import configurable
from detectron2.layers import Conv2d, ConvTranspose2d, ShapeSpec, cat
from detectron2.structures import Instances, heatmaps_to_keypoints
from detectron2.utils.events import get_event_storage
from detectron2.utils.registry import Registry

if TYPE_CHECKING:
    from detectron2.config import CfgNode

__all__ = [
    "ROI_KEYPOINT_HEAD_REGISTRY",
    "BaseKeypointRCNNHead",
    "KRCNNConvDeconvUpsampleHead",
    "build_keypoint_head",
]

if TYPE_CHECKING:
    Result = dict[str, Tensor] | list[Instances]
else:
    Result = list[Instances]  # TorchScript compiles inference only

ROI_KEYPOINT_HEAD_REGISTRY = Registry("ROI_KEYPOINT_HEAD")
ROI_KEYPOINT_HEAD_REGISTRY.__doc__ = """Keypoint heads by name.

A registered object is called with `(cfg, input_shape: ShapeSpec)`. Its result is called with the
pooled features of all regions and the instances of each image.
"""

_skipped_batches = 0


def build_keypoint_head(cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
    """Build the keypoint head named by `cfg.MODEL.ROI_KEYPOINT_HEAD.NAME`."""
    return ROI_KEYPOINT_HEAD_REGISTRY.get(cfg.MODEL.ROI_KEYPOINT_HEAD.NAME)(cfg, input_shape)


def keypoint_rcnn_loss(
    pred_keypoint_logits: Tensor, instances: list[Instances], normalizer: float | None
) -> Tensor:
    """Compute the summed cross entropy of the heat maps of labelled keypoints in their region.

    Args:
        pred_keypoint_logits: (R, K, S, S).
        instances: per image, R in total, with `proposal_boxes` and `gt_keypoints`.
        normalizer: divisor of the loss; by default the number of these keypoints.
    """
    side = pred_keypoint_logits.shape[-1]
    pairs = [
        i.gt_keypoints.to_heatmap(i.proposal_boxes.tensor, side) for i in instances if len(i) > 0
    ]
    counted = cat([valid.flatten() for _, valid in pairs]).bool() if pairs else None
    if counted is None or not counted.any():
        _count_skipped_batch()
        # Zero, but with a gradient: every rank must take part in the all-reduce.
        return pred_keypoint_logits.sum() * 0
    cells = cat([cells.flatten() for cells, _ in pairs])[counted]
    logits = pred_keypoint_logits.flatten(2).flatten(0, 1)[counted]
    loss = F.cross_entropy(logits, cells, reduction="sum")
    return loss / (len(cells) if normalizer is None else normalizer)


def _count_skipped_batch() -> None:
    global _skipped_batches
    _skipped_batches += 1
    get_event_storage().put_scalar(
        "kpts_num_skipped_batches", _skipped_batches, smoothing_hint=False
    )


def keypoint_rcnn_inference(pred_keypoint_logits: Tensor, pred_instances: list[Instances]) -> None:
    """Decode heat maps to keypoints and add both to the instances.

    Sets `pred_keypoints` (Ri, K, 3), x and y in pixels and the score, and `pred_keypoint_heatmaps`
    (Ri, K, S, S), the logits.

    Args:
        pred_keypoint_logits: (R, K, S, S).
        pred_instances: per image, R in total, with `pred_boxes`. Changed in place.
    """
    boxes = cat([i.pred_boxes.tensor for i in pred_instances])
    logits = pred_keypoint_logits.detach()
    keypoints = heatmaps_to_keypoints(logits, boxes.detach())[:, :, [0, 1, 3]]
    sizes = [i.pred_boxes.tensor.shape[0] for i in pred_instances]
    images = zip(pred_instances, keypoints.split(sizes), logits.split(sizes), strict=True)
    for found, image_keypoints, image_logits in images:
        found.pred_keypoints = image_keypoints
        found.pred_keypoint_heatmaps = image_logits


class BaseKeypointRCNNHead(nn.Module):
    """Loss and decoding of keypoints; a subclass defines `layers`.

    Args:
        num_keypoints: keypoints per object.
        loss_weight: weight of "loss_keypoint".
        loss_normalizer: "visible": divide the loss by the number of labelled keypoints in the
            batch; a number: divide by this number per image.
    """

    @configurable
    def __init__(
        self,
        *,
        num_keypoints: int,
        loss_weight: float = 1.0,
        loss_normalizer: float | str = 1.0,
    ) -> None:
        super().__init__()
        if isinstance(loss_normalizer, str) and loss_normalizer != "visible":
            raise ValueError(f"loss_normalizer is 'visible' or a number, got {loss_normalizer!r}")
        self.num_keypoints = num_keypoints
        self.loss_weight = loss_weight
        self.loss_normalizer = loss_normalizer

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        section, heads = cfg.MODEL.ROI_KEYPOINT_HEAD, cfg.MODEL.ROI_HEADS
        expected = section.NUM_KEYPOINTS * heads.BATCH_SIZE_PER_IMAGE * heads.POSITIVE_FRACTION
        by_visible = section.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS
        return {
            "loss_weight": section.LOSS_WEIGHT,
            "num_keypoints": section.NUM_KEYPOINTS,
            "loss_normalizer": "visible" if by_visible else expected,
        }

    def forward(self, x: Tensor, instances: list[Instances]) -> Result:
        """Return {"loss_keypoint"} in training, otherwise the instances with keypoints.

        Args:
            x: (R, C, H, W) pooled features.
            instances: per image, R in total; see `keypoint_rcnn_loss`, `keypoint_rcnn_inference`.
        """
        logits = self.layers(x)
        if self.training:
            normalizer = None
            if self.loss_normalizer != "visible":
                normalizer = cast(float, self.loss_normalizer) * len(instances)
            loss = keypoint_rcnn_loss(logits, instances, normalizer)
            return {"loss_keypoint": loss * self.loss_weight}
        keypoint_rcnn_inference(logits, instances)
        return instances

    def layers(self, x: Tensor) -> Tensor:
        """Map (R, C, H, W) to logits (R, num_keypoints, S, S)."""
        raise NotImplementedError


@ROI_KEYPOINT_HEAD_REGISTRY.register()
class KRCNNConvDeconvUpsampleHead(BaseKeypointRCNNHead, nn.Sequential):  # type: ignore[misc]
    """3x3 convolutions, a transposed convolution, and bilinear upsampling.

    The heat maps have four times the side of the pooled features.

    Args:
        input_shape: channels of the pooled features.
        num_keypoints, kwargs: arguments of `BaseKeypointRCNNHead`.
        conv_dims: output channels of each 3x3 convolution.
    """

    @configurable
    def __init__(
        self, input_shape: ShapeSpec, *, num_keypoints: int, conv_dims: list[int], **kwargs: Any
    ) -> None:
        super().__init__(num_keypoints=num_keypoints, **kwargs)
        self.up_scale = 2.0
        channels = [cast(int, input_shape.channels), *conv_dims]
        for index, (before, after) in enumerate(pairwise(channels), start=1):
            self.add_module(f"conv_fcn{index}", Conv2d(before, after, kernel_size=3, padding=1))
            self.add_module(f"conv_fcn_relu{index}", nn.ReLU())
        # Kernel 4, stride 2, padding 1 doubles the size exactly.
        self.score_lowres = ConvTranspose2d(
            channels[-1], num_keypoints, kernel_size=4, stride=2, padding=1
        )
        for name, parameter in self.named_parameters():
            if "bias" in name:
                nn.init.zeros_(parameter)
            else:
                nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        options = super().from_config(cfg, input_shape)
        conv_dims = cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS
        return {**options, "input_shape": input_shape, "conv_dims": conv_dims}

    def layers(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x)
        return F.interpolate(x, scale_factor=self.up_scale, mode="bilinear", align_corners=False)
