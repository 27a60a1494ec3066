"""Mask heads: a mask per region (He et al. 2017, arXiv:1703.06870)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import torch
from fvcore.nn import weight_init
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.config import configurable
from detectron2.layers import Conv2d, ConvTranspose2d, ShapeSpec, cat, get_norm
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage
from detectron2.utils.registry import Registry

if TYPE_CHECKING:
    from detectron2.config import CfgNode

__all__ = [
    "ROI_MASK_HEAD_REGISTRY",
    "BaseMaskRCNNHead",
    "MaskRCNNConvUpsampleHead",
    "build_mask_head",
]

if TYPE_CHECKING:
    Result = dict[str, Tensor] | list[Instances]
else:
    Result = list[Instances]  # TorchScript compiles inference only

ROI_MASK_HEAD_REGISTRY = Registry("ROI_MASK_HEAD")
ROI_MASK_HEAD_REGISTRY.__doc__ = """Mask heads by name.

A registered object is called with `(cfg, input_shape: ShapeSpec)`. Its result is called with the
pooled features of all regions and the instances of each image.
"""


def mask_rcnn_loss(
    pred_mask_logits: Tensor, instances: list[Instances], vis_period: int = 0
) -> Tensor:
    """Compute the mean binary cross entropy of the true class's mask of each region.

    Args:
        pred_mask_logits: (R, classes, M, M), or (R, 1, M, M) if class-agnostic.
        instances: per image, R in total, with `proposal_boxes`, `gt_classes` and `gt_masks`.
        vis_period: iterations between visualisations; 0: none.
    """
    truth = _cropped_truth(instances, pred_mask_logits)
    if truth is None:
        # Zero, but with a gradient: every rank must take part in the all-reduce.
        return pred_mask_logits.sum() * 0
    logits = _of_class(pred_mask_logits, cat([i.gt_classes for i in instances if len(i)]))
    # A logit above 0 is a probability above 1/2.
    _log_mask_stats(logits > 0, truth)
    storage = get_event_storage()
    if vis_period > 0 and storage.iter % vis_period == 0:
        pairs = torch.cat([logits.detach().sigmoid(), truth.to(logits.dtype)], dim=2)
        for index, pair in enumerate(pairs):
            name = f"Left: mask prediction;   Right: mask GT ({index})"
            storage.put_image(name, pair.expand(3, -1, -1))
    return F.binary_cross_entropy_with_logits(logits, truth.to(logits.dtype), reduction="mean")


def _cropped_truth(instances: list[Instances], logits: Tensor) -> Tensor | None:
    """Crop the ground-truth masks to the proposals: (R, M, M) bool."""
    masks = [
        i.gt_masks.crop_and_resize(i.proposal_boxes.tensor, logits.shape[-1]).to(logits.device)
        for i in instances
        if len(i) > 0
    ]
    return cat(masks) if masks else None


def _of_class(logits: Tensor, classes: Tensor) -> Tensor:
    """Select the mask of each region's class: (R, classes, M, M) -> (R, M, M)."""
    if logits.shape[1] == 1:
        return logits[:, 0]
    return logits[torch.arange(len(classes), device=classes.device), classes]


def _log_mask_stats(predicted: Tensor, truth: Tensor) -> None:
    wrong, inside = predicted != truth, int(truth.sum())
    stats = {
        "accuracy": 1 - int(wrong.sum()) / max(wrong.numel(), 1),
        "false_positive": int((wrong & ~truth).sum()) / max(truth.numel() - inside, 1),
        "false_negative": int((wrong & truth).sum()) / max(inside, 1),
    }
    for name, value in stats.items():
        get_event_storage().put_scalar(f"mask_rcnn/{name}", value)


def mask_rcnn_inference(pred_mask_logits: Tensor, pred_instances: list[Instances]) -> None:
    """Set `pred_masks` (Ri, 1, M, M), probabilities of the mask of the predicted class.

    Args:
        pred_mask_logits: (R, classes, M, M), or (R, 1, M, M) if class-agnostic.
        pred_instances: per image, R in total, with `pred_classes`. Changed in place.
    """
    classes = cat([i.pred_classes for i in pred_instances])
    masks = _of_class(pred_mask_logits, classes)[:, None].sigmoid()
    sizes = [i.pred_classes.shape[0] for i in pred_instances]
    for found, image_masks in zip(pred_instances, masks.split(sizes), strict=True):
        found.pred_masks = image_masks


class BaseMaskRCNNHead(nn.Module):
    """Loss and decoding of masks; a subclass defines `layers`.

    Args:
        loss_weight: weight of "loss_mask".
        vis_period: iterations between visualisations of the training; 0: none.
    """

    @configurable
    def __init__(self, *, loss_weight: float = 1.0, vis_period: int = 0) -> None:
        super().__init__()
        self.vis_period = vis_period
        self.loss_weight = loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        return {"vis_period": cfg.VIS_PERIOD}

    def forward(self, x: Tensor, instances: list[Instances]) -> Result:
        """Return {"loss_mask"} in training, otherwise the instances with `pred_masks`.

        Args:
            x: (R, C, H, W) pooled features.
            instances: per image, R in total; see `mask_rcnn_loss`, `mask_rcnn_inference`.
        """
        logits = self.layers(x)
        if self.training:
            loss = mask_rcnn_loss(logits, instances, self.vis_period)
            return {"loss_mask": loss * self.loss_weight}
        mask_rcnn_inference(logits, instances)
        return instances

    def layers(self, x: Tensor) -> Tensor:
        """Map (R, C, H, W) to logits (R, classes, M, M)."""
        raise NotImplementedError


@ROI_MASK_HEAD_REGISTRY.register()
class MaskRCNNConvUpsampleHead(BaseMaskRCNNHead, nn.Sequential):  # type: ignore[misc]
    """3x3 convolutions, upsampling by two, and a 1x1 predictor.

    Args:
        input_shape: channels of the pooled features.
        num_classes: masks per region; 1 if class-agnostic.
        conv_dims: output channels of each 3x3 convolution, and last of the upsampling.
        conv_norm: normalisation after each convolution, see `get_norm`.
        kwargs: arguments of `BaseMaskRCNNHead`.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_classes: int,
        conv_dims: list[int],
        conv_norm: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not conv_dims:
            raise ValueError("a mask head needs the width of its upsampling in conv_dims")
        channels = [cast(int, input_shape.channels), *conv_dims]
        self.conv_norm_relus = []  # for subclasses of packages, which run the layers themselves
        for index, (before, after) in enumerate(pairwise(channels[:-1]), start=1):
            conv = Conv2d(
                before,
                after,
                kernel_size=3,
                padding=1,
                bias=not conv_norm,
                norm=get_norm(conv_norm, after),
                activation=nn.ReLU(),
            )
            self.add_module(f"mask_fcn{index}", conv)
            self.conv_norm_relus.append(conv)
        self.deconv = ConvTranspose2d(channels[-2], channels[-1], kernel_size=2, stride=2)
        self.add_module("deconv_relu", nn.ReLU())
        self.predictor = Conv2d(channels[-1], num_classes, kernel_size=1)
        for layer in list(self.children())[:-1]:
            if not isinstance(layer, nn.ReLU):
                weight_init.c2_msra_fill(layer)
        # The published initialisation: small, so that masks start near probability 1/2.
        nn.init.normal_(self.predictor.weight, std=0.001)
        nn.init.zeros_(self.predictor.get_parameter("bias"))

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        section = cfg.MODEL.ROI_MASK_HEAD
        return {
            **super().from_config(cfg, input_shape),
            "conv_dims": [section.CONV_DIM] * (section.NUM_CONV + 1),
            "conv_norm": section.NORM,
            "input_shape": input_shape,
            "num_classes": 1 if section.CLS_AGNOSTIC_MASK else cfg.MODEL.ROI_HEADS.NUM_CLASSES,
        }

    def layers(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x)
        return x


def build_mask_head(cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
    """Build the mask head named by `cfg.MODEL.ROI_MASK_HEAD.NAME`."""
    return ROI_MASK_HEAD_REGISTRY.get(cfg.MODEL.ROI_MASK_HEAD.NAME)(cfg, input_shape)
