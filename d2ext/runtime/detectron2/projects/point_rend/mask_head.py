"""Mask heads of PointRend: a coarse mask, rendered finer at its uncertain points.

Source: Kirillov et al., "PointRend: Image Segmentation as Rendering", 2020, arXiv:1912.08193;
the implicit head: Cheng et al., "Pointly-Supervised Instance Segmentation", 2022, arXiv:2104.06404.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from fvcore.nn.weight_init import c2_msra_fill, c2_xavier_fill
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec, cat
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY
from detectron2.modeling.roi_heads.mask_head import mask_rcnn_inference, mask_rcnn_loss
from detectron2.structures import Boxes, Instances

from .point_features import (
    generate_regular_grid_point_coords,
    get_point_coords_wrt_image,
    get_uncertain_point_coords_on_grid,
    get_uncertain_point_coords_with_randomness,
    point_sample,
    point_sample_fine_grained_features,
    sample_point_labels,
)
from .point_head import build_point_head, roi_mask_point_loss

__all__ = [
    "ConvFCHead",
    "ImplicitPointRendMaskHead",
    "PointRendMaskHead",
    "calculate_uncertainty",
]

Features = Mapping[str, Tensor]


def calculate_uncertainty(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the uncertainty of mask logits: minus the distance to the decision at 0.

    Args:
        logits: (R, C, ...) per class, or (R, 1, ...).
        classes: (R,) class of each mask.

    Returns:
        (R, 1, ...).
    """
    if logits.shape[1] != 1:
        rows = torch.arange(logits.shape[0], device=logits.device)
        logits = logits[rows, classes][:, None]
    return -logits.abs()


class ConvFCHead(nn.Module):
    """Convolutions that halve a pooled region, then fully connected layers.

    Args:
        input_shape: channels, width and height of the pooled regions.
        conv_dim: channels of the convolutions.
        fc_dims: widths of the fully connected layers.
        output_shape: shape of the prediction of one region.
    """

    _version = 2

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        conv_dim: int,
        fc_dims: Sequence[int],
        output_shape: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.output_shape = output_shape
        channels = input_shape.channels or conv_dim
        self.conv_layers: list[nn.Module] = []
        if channels > conv_dim:
            self.reduce_channel_dim_conv = Conv2d(channels, conv_dim, 1, activation=F.relu)
            self.conv_layers.append(self.reduce_channel_dim_conv)
            channels = conv_dim
        self.reduce_spatial_dim_conv = Conv2d(channels, conv_dim, 2, stride=2, activation=F.relu)
        self.conv_layers.append(self.reduce_spatial_dim_conv)
        for layer in self.conv_layers:
            c2_msra_fill(layer)
        width = conv_dim * (input_shape.width or 1) * (input_shape.height or 1) // 4
        self.fcs: list[nn.Module] = []
        for number, size in enumerate(fc_dims, start=1):
            layer = nn.Linear(width, size)
            c2_xavier_fill(layer)
            self.add_module(f"fc{number}", layer)
            self.fcs.append(layer)
            width = size
        self.prediction = nn.Linear(width, math.prod(output_shape))
        nn.init.normal_(self.prediction.weight, std=0.001)
        nn.init.zeros_(self.prediction.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        mask = cfg.MODEL.ROI_MASK_HEAD
        side = mask.OUTPUT_SIDE_RESOLUTION
        return {
            "input_shape": input_shape,
            "conv_dim": mask.CONV_DIM,
            "fc_dims": [mask.FC_DIM] * mask.NUM_FC,
            "output_shape": (cfg.MODEL.ROI_HEADS.NUM_CLASSES, side, side),
        }

    def forward(self, x: Tensor) -> Tensor:
        """Predict (R, *output_shape) from pooled regions (R, C, H, W)."""
        for layer in self.conv_layers:
            x = layer(x)
        x = x.flatten(1)
        for layer in self.fcs:
            x = F.relu(layer(x))
        return self.prediction(x).unflatten(1, self.output_shape)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # The names of weights of version 1.
        for name in [each for each in state_dict if each.startswith(f"{prefix}coarse_mask_fc")]:
            new = f"{prefix}fc{name.removeprefix(f'{prefix}coarse_mask_fc')}"
            state_dict[new] = state_dict.pop(name)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


@ROI_MASK_HEAD_REGISTRY.register()
class PointRendMaskHead(nn.Module):
    """A coarse mask head and a point head, which pool their own features.

    Subclasses may override the methods with one underscore.

    Args:
        input_shape: shapes of the feature maps by name.
    """

    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
        super().__init__()
        self._feature_scales = {name: 1.0 / shape.stride for name, shape in input_shape.items()}
        self._init_point_head(cfg, input_shape)
        self.roi_pooler_in_features = cfg.MODEL.ROI_MASK_HEAD.IN_FEATURES
        side = self.roi_pooler_size = cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION
        channels = _total_channels(input_shape, self.roi_pooler_in_features)
        self._init_roi_head(cfg, ShapeSpec(channels=channels, width=side, height=side))

    def _init_roi_head(self, cfg: CfgNode, input_shape: ShapeSpec) -> None:
        self.coarse_head = ConvFCHead(cfg, input_shape)

    def _init_point_head(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
        self.mask_point_on: bool = cfg.MODEL.ROI_MASK_HEAD.POINT_HEAD_ON
        if not self.mask_point_on:
            return
        self._set_points(cfg, input_shape)
        point = cfg.MODEL.POINT_HEAD
        self.mask_point_oversample_ratio = point.OVERSAMPLE_RATIO
        self.mask_point_importance_sample_ratio = point.IMPORTANCE_SAMPLE_RATIO
        # Steps at whose resolution all points are taken anyway are one.
        side = cfg.MODEL.ROI_MASK_HEAD.OUTPUT_SIDE_RESOLUTION
        while 4 * side**2 <= self.mask_point_subdivision_num_points:
            side *= 2
            self.mask_point_subdivision_steps -= 1
        self.mask_point_subdivision_init_resolution: int = side

    def _set_points(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
        """Build the point head and read the numbers of points.

        Raises:
            ValueError: the point head has another number of classes than the masks.
        """
        point, classes = cfg.MODEL.POINT_HEAD, cfg.MODEL.ROI_HEADS.NUM_CLASSES
        if classes != point.NUM_CLASSES:
            raise ValueError(
                f"MODEL.POINT_HEAD.NUM_CLASSES is {point.NUM_CLASSES}, MODEL.ROI_HEADS.NUM_CLASSES "
                f"{classes}: they have to be equal"
            )
        self.mask_point_in_features = point.IN_FEATURES
        self.mask_point_train_num_points: int = point.TRAIN_NUM_POINTS
        self.mask_point_subdivision_steps: int = point.SUBDIVISION_STEPS
        self.mask_point_subdivision_num_points: int = point.SUBDIVISION_NUM_POINTS
        channels = _total_channels(input_shape, point.IN_FEATURES)
        self.point_head = build_point_head(cfg, ShapeSpec(channels=channels, width=1, height=1))

    def forward(self, features: Features, instances: list[Instances]) -> Any:
        """Return losses of proposals in training, otherwise instances with "pred_masks".

        Args:
            features: maps of the images by name.
            instances: per image, with "proposal_boxes" and ground truth, or with "pred_boxes" and
                "pred_classes".
        """
        if not self.training:
            boxes = [image.pred_boxes for image in instances]
            coarse = self.coarse_head(self._roi_pooler(features, boxes))
            if self.mask_point_on:
                return self._subdivision_inference(features, coarse, instances)
            mask_rcnn_inference(coarse, instances)
            return instances
        boxes = [image.proposal_boxes for image in instances]
        coarse = self.coarse_head(self._roi_pooler(features, boxes))
        losses = {"loss_mask": mask_rcnn_loss(coarse, instances)}
        if self.mask_point_on:
            points, labels = self._sample_train_points(coarse, instances)
            fine = self._point_pooler(features, boxes, points)
            logits = self._get_point_logits(fine, points, coarse)
            losses["loss_mask_point"] = roi_mask_point_loss(logits, instances, labels)
        return losses

    def _roi_pooler(self, features: Features, boxes: list[Boxes]) -> Tensor:
        """Sample a grid of points per box from all maps: (R, C, side, side)."""
        count = sum(each.tensor.shape[0] for each in boxes)
        side, device = self.roi_pooler_size, boxes[0].tensor.device
        points = generate_regular_grid_point_coords(count, side, device)
        pooled = self._pool(features, self.roi_pooler_in_features, boxes, points)
        return pooled.unflatten(2, (side, side))

    def _point_pooler(
        self, features: Features, proposal_boxes: list[Boxes], point_coords: Tensor
    ) -> Tensor:
        """Sample the features of the point head: (R, C, P)."""
        return self._pool(features, self.mask_point_in_features, proposal_boxes, point_coords)

    def _pool(
        self, features: Features, names: Sequence[str], boxes: list[Boxes], points: Tensor
    ) -> Tensor:
        maps, scales = zip(*((features[n], self._feature_scales[n]) for n in names), strict=True)
        return point_sample_fine_grained_features(maps, scales, boxes, points)[0]

    @torch.no_grad()
    def _sample_train_points(
        self, coarse_mask: Tensor, instances: list[Instances]
    ) -> tuple[Tensor, Tensor]:
        """Draw points, mostly where the coarse mask is uncertain, and their labels."""
        classes = cat([image.gt_classes for image in instances])
        points = get_uncertain_point_coords_with_randomness(
            coarse_mask,
            lambda logits: calculate_uncertainty(logits, classes),
            self.mask_point_train_num_points,
            self.mask_point_oversample_ratio,
            self.mask_point_importance_sample_ratio,
        )
        return points, _labels_at(points, instances)

    def _get_point_logits(
        self, fine_grained_features: Tensor, point_coords: Tensor, coarse_mask: Tensor
    ) -> Tensor:
        coarse = point_sample(coarse_mask, point_coords, align_corners=False)
        return self.point_head(fine_grained_features, coarse)

    def _subdivision_inference(
        self, features: Features, mask_representations: Tensor, instances: list[Instances]
    ) -> list[Instances]:
        """Predict all points of a first grid, then the uncertain ones of ever finer grids."""
        boxes = [image.pred_boxes for image in instances]
        classes = cat([image.pred_classes for image in instances])

        def logits_at(points: Tensor) -> Tensor:
            fine = self._point_pooler(features, boxes, points)
            return self._get_point_logits(fine, points, mask_representations)

        side = self.mask_point_subdivision_init_resolution
        grid = generate_regular_grid_point_coords(classes.shape[0], side, classes.device)
        masks = logits_at(grid).unflatten(2, (side, side))
        for _ in range(self.mask_point_subdivision_steps):
            masks = F.interpolate(masks, scale_factor=2, mode="bilinear", align_corners=False)
            indices, points = get_uncertain_point_coords_on_grid(
                calculate_uncertainty(masks, classes), self.mask_point_subdivision_num_points
            )
            masks = put_at_points(masks, indices, logits_at(points))
        mask_rcnn_inference(masks, instances)
        return instances


@ROI_MASK_HEAD_REGISTRY.register()
class ImplicitPointRendMaskHead(PointRendMaskHead):
    """A head that predicts the parameters of a point head per instance, and no coarse mask."""

    def _init_roi_head(self, cfg: CfgNode, input_shape: ShapeSpec) -> None:
        self.parameter_head = ConvFCHead(cfg, input_shape, output_shape=(self.num_params,))
        self.regularizer: float = cfg.MODEL.IMPLICIT_POINTREND.PARAMS_L2_REGULARIZER

    def _init_point_head(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
        self.mask_point_on = True
        self._set_points(cfg, input_shape)
        self.num_params: int = self.point_head.num_params
        points = self.mask_point_subdivision_num_points
        self.mask_point_subdivision_init_resolution = math.isqrt(points)
        if self.mask_point_subdivision_init_resolution**2 != points:
            raise ValueError(
                f"MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS is {points}, which is no square: the "
                "first grid has that many points"
            )

    def forward(self, features: Features, instances: list[Instances]) -> Any:
        """Return losses in training, otherwise instances with "pred_masks"."""
        field = "proposal_boxes" if self.training else "pred_boxes"
        boxes = [image.get(field) for image in instances]
        parameters = self.parameter_head(self._roi_pooler(features, boxes))
        if not self.training:
            return self._subdivision_inference(features, parameters, instances)
        points, labels = self._uniform_sample_train_points(instances)
        fine = self._point_pooler(features, boxes, points)
        logits = self._get_point_logits(fine, points, parameters)
        return {
            "loss_l2": self.regularizer * parameters.square().mean(),
            "loss_mask_point": roi_mask_point_loss(logits, instances, labels),
        }

    def _uniform_sample_train_points(self, instances: list[Instances]) -> tuple[Tensor, Tensor]:
        """Draw points evenly, and their labels."""
        boxes = Boxes.cat([image.proposal_boxes for image in instances]).tensor
        count = self.mask_point_train_num_points
        points = torch.rand(len(boxes), count, 2, device=boxes.device)
        return points, _labels_at(points, instances)

    def _get_point_logits(
        self, fine_grained_features: Tensor, point_coords: Tensor, coarse_mask: Tensor
    ) -> Tensor:
        # What stands for the mask here are the parameters of its instance.
        return self.point_head(fine_grained_features, point_coords, coarse_mask)


def put_at_points(maps: Tensor, indices: Tensor, values: Tensor) -> Tensor:
    """Return maps (N, C, H, W) with values (N, C, P) at cells (N, P) of the flattened H * W."""
    where = indices[:, None].expand(-1, values.shape[1], -1)
    return maps.flatten(2).scatter(2, where, values).view_as(maps)


def _labels_at(points: Tensor, instances: list[Instances]) -> Tensor:
    """Return the ground truth (R, P) at points (R, P, 2), 0 to 1 inside the proposals."""
    boxes = Boxes.cat([image.proposal_boxes for image in instances]).tensor
    return sample_point_labels(instances, get_point_coords_wrt_image(boxes, points))


def _total_channels(shapes: Mapping[str, ShapeSpec], names: Sequence[str]) -> int:
    return sum(shapes[name].channels or 0 for name in names)
