"""Point heads of PointRend: multilayer perceptrons on the features of single points.

Source: Kirillov et al., "PointRend: Image Segmentation as Rendering", 2020, arXiv:1912.08193,
section 3.3; the implicit head: Cheng et al., "Pointly-Supervised Instance Segmentation", 2022,
arXiv:2104.06404, section 5.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from fvcore.nn.weight_init import c2_msra_fill
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec, cat
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage
from detectron2.utils.registry import Registry

__all__ = [
    "POINT_HEAD_REGISTRY",
    "ImplicitPointHead",
    "StandardPointHead",
    "build_point_head",
    "roi_mask_point_loss",
]

POINT_HEAD_REGISTRY = Registry("POINT_HEAD")
POINT_HEAD_REGISTRY.__doc__ = "Registry of point heads, called as `head(cfg, input_shape)`."

IGNORED = -1  # label of points that are not learned
NUM_FREQUENCIES = 128  # of the positional encoding, each with a sine and a cosine


def roi_mask_point_loss(
    mask_logits: Tensor, instances: Sequence[Instances], point_labels: Tensor
) -> Tensor:
    """Compute the mean binary cross-entropy of mask logits at points; log their accuracy.

    Args:
        mask_logits: (R, C, P), or (R, 1, P) for masks without class.
        instances: per image with "gt_classes", R in total.
        point_labels: (R, P) 0 or 1; -1: no loss.
    """
    if len(point_labels) == 0:
        return mask_logits.sum() * 0
    if mask_logits.shape[1] == 1:
        logits = mask_logits[:, 0]
    else:
        classes = cat([image.gt_classes for image in instances]).long()
        logits = mask_logits[torch.arange(len(classes), device=classes.device), classes]
    learned = point_labels != IGNORED
    right = (logits > 0) == (point_labels == 1)
    accuracy = right[learned].sum().item() / max(int(learned.sum()), 1)
    get_event_storage().put_scalar("point/accuracy", accuracy)
    targets = point_labels.to(logits.dtype)
    # The mean is over all points: ignored ones are in the denominator.
    return F.binary_cross_entropy_with_logits(logits, targets, weight=learned.to(logits.dtype))


def build_point_head(cfg: CfgNode, input_channels: ShapeSpec) -> nn.Module:
    """Build the head that `MODEL.POINT_HEAD.NAME` names.

    Args:
        input_channels: shape of the fine-grained features, of which the channels are read.
    """
    return POINT_HEAD_REGISTRY.get(cfg.MODEL.POINT_HEAD.NAME)(cfg, input_channels)


@POINT_HEAD_REGISTRY.register()
class StandardPointHead(nn.Module):
    """A shared perceptron on fine-grained features and the coarse prediction of each point."""

    def __init__(self, cfg: CfgNode, input_shape: ShapeSpec) -> None:
        super().__init__()
        head = cfg.MODEL.POINT_HEAD
        self.coarse_pred_each_layer: bool = head.COARSE_PRED_EACH_LAYER
        repeated = head.NUM_CLASSES if head.COARSE_PRED_EACH_LAYER else 0
        width = input_shape.channels + head.NUM_CLASSES
        self.fc_layers: list[nn.Module] = []
        for number in range(1, head.NUM_FC + 1):
            layer = nn.Conv1d(width, head.FC_DIM, kernel_size=1)
            c2_msra_fill(layer)
            self.add_module(f"fc{number}", layer)
            self.fc_layers.append(layer)
            width = head.FC_DIM + repeated
        outputs = 1 if head.CLS_AGNOSTIC_MASK else head.NUM_CLASSES
        self.predictor = nn.Conv1d(width, outputs, kernel_size=1)
        nn.init.normal_(self.predictor.weight, std=0.001)
        nn.init.zeros_(self.predictor.bias)  # type: ignore[arg-type]

    def forward(self, fine_grained_features: Tensor, coarse_features: Tensor) -> Tensor:
        """Predict logits (R, C, P) from (R, F, P) features and (R, K, P) coarse predictions."""
        hidden = torch.cat((fine_grained_features, coarse_features), dim=1)
        for layer in self.fc_layers:
            hidden = F.relu(layer(hidden))
            if self.coarse_pred_each_layer:
                hidden = torch.cat((hidden, coarse_features), dim=1)
        return self.predictor(hidden)


@POINT_HEAD_REGISTRY.register()
class ImplicitPointHead(nn.Module):
    """A perceptron whose parameters are predicted per instance, on features and positions.

    Attributes:
        num_params: number of parameters of one instance: all weights, then all biases.
    """

    def __init__(self, cfg: CfgNode, input_shape: ShapeSpec) -> None:
        super().__init__()
        head, implicit = cfg.MODEL.POINT_HEAD, cfg.MODEL.IMPLICIT_POINTREND
        self.num_classes = 1 if head.CLS_AGNOSTIC_MASK else head.NUM_CLASSES
        self.image_feature_enabled: bool = implicit.IMAGE_FEATURE_ENABLED
        self.positional_encoding_enabled: bool = implicit.POS_ENC_ENABLED
        self.in_channels = input_shape.channels if self.image_feature_enabled else 0
        if self.positional_encoding_enabled:
            self.in_channels += 2 * NUM_FREQUENCIES
            matrix = torch.randn(2, NUM_FREQUENCIES)
            self.register_buffer("positional_encoding_gaussian_matrix", matrix)
        if not self.in_channels:
            raise ValueError(
                "MODEL.IMPLICIT_POINTREND: IMAGE_FEATURE_ENABLED and POS_ENC_ENABLED are both off"
            )
        self.widths = [self.in_channels, *[head.FC_DIM] * head.NUM_FC, self.num_classes]
        self.num_weight_params = [before * after for before, after in pairwise(self.widths)]
        self.num_bias_params = self.widths[1:]
        self.num_params = sum(self.num_weight_params) + sum(self.num_bias_params)

    def forward(
        self, fine_grained_features: Tensor, point_coords: Tensor, parameters: Tensor
    ) -> Tensor:
        """Predict logits (R, C, P).

        Args:
            fine_grained_features: (R, F, P).
            point_coords: (R, P, 2) XY, 0 to 1 inside the box.
            parameters: (R, num_params).
        """
        inputs = []
        if self.positional_encoding_enabled:
            inputs.append(self._encode(point_coords))
        if self.image_feature_enabled:
            inputs.append(fine_grained_features)
        hidden = torch.cat(inputs, dim=1)
        parts = parameters.split([*self.num_weight_params, *self.num_bias_params], dim=1)
        layers = len(self.num_bias_params)
        for index, (before, after) in enumerate(pairwise(self.widths)):
            weight = parts[index].reshape(-1, after, before)
            hidden = torch.baddbmm(parts[layers + index][..., None], weight, hidden)
            if index < layers - 1:
                hidden = F.relu(hidden)
        return hidden

    def _encode(self, points: Tensor) -> Tensor:
        """Return random Fourier features: (R, P, 2) -> (R, 2 * NUM_FREQUENCIES, P)."""
        angles = 2 * math.pi * ((2 * points - 1) @ self.positional_encoding_gaussian_matrix)
        return torch.cat((angles.sin(), angles.cos()), dim=2).mT
