"""DETR3D: image features of all cameras, a set of queries, boxes in space.

Source: Wang et al., "DETR3D: 3D Object Detection from Multi-view Images via 3D-to-2D Queries",
2021, arXiv:2110.06922, figure 1.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from d2ext.errors import ConfigError
from d2ext.modeling.meta_arch import Detector
from d2ext.modeling.set_prediction import SetPredictions, SetTargets
from d2ext.projects.detr3d.modeling.box_code import CONVENTIONS, switch_convention
from d2ext.projects.detr3d.modeling.criterion import SpaceCriterion, SpaceMatcher, space_targets
from d2ext.projects.detr3d.modeling.decoder import CameraView
from d2ext.projects.detr3d.modeling.decoding import SpaceDetections, decode_detections
from d2ext.projects.detr3d.modeling.grid_mask import GridMask
from d2ext.projects.detr3d.modeling.head import DETR3DHead
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import ImageList


class CameraImages(ImageList):
    """The images of all cameras of B samples, in succession, with their projections.

    Attributes:
        lidar2img: (B, N, 4, 4), see `project_points`.
    """

    lidar2img: Tensor

    @classmethod
    def of(cls, images: ImageList, lidar2img: Tensor) -> "CameraImages":
        """Combine B * N images with the projections of their cameras."""
        found = cls(images.tensor, images.image_sizes)
        found.lidar2img = lidar2img
        return found


@META_ARCH_REGISTRY.register()
class DETR3D(Detector):
    """Six images and their calibration in; classes and boxes with velocity in the lidar frame out.

    Args:
        in_features: levels of the backbone, finest first.
        head: predicts classes and codes.
        criterion: matching and losses.
        max_detections: detections per sample.
        centre_range: see `decode_detections`.
        box_convention: one of `CONVENTIONS`, of what the weights predict.
        grid_mask_prob: see `GridMask`.
        options: those of `Detector`.
    """

    dataset_mapper = "detr3d"

    @configurable
    def __init__(
        self,
        *,
        in_features: Sequence[str],
        head: DETR3DHead,
        criterion: SpaceCriterion,
        max_detections: int,
        centre_range: Sequence[float],
        box_convention: str,
        grid_mask_prob: float,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if box_convention not in CONVENTIONS:
            raise ConfigError(
                f"MODEL.DETR3D.BOX_CONVENTION: {box_convention!r} is none of "
                f"{', '.join(CONVENTIONS)}"
            )
        self.in_features, self.head, self.criterion = tuple(in_features), head, criterion
        self.max_detections, self.centre_range = max_detections, tuple(centre_range)
        self.other_convention = box_convention != CONVENTIONS[0]
        self.grid_mask = GridMask(grid_mask_prob)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        section = cfg.MODEL.DETR3D
        return {
            **super().from_config(cfg),
            "in_features": section.IN_FEATURES,
            "head": DETR3DHead.from_config(cfg),
            "criterion": build_criterion(cfg),
            "max_detections": cfg.TEST.DETECTIONS_PER_IMAGE,
            "centre_range": section.CENTRE_RANGE,
            "box_convention": section.BOX_CONVENTION,
            "grid_mask_prob": section.GRID_MASK_PROB,
        }

    @classmethod
    def required_annotations(cls, cfg: CfgNode) -> dict[str, str]:
        return {"boxes in space": f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE}"}

    def preprocess(self, batch: list[dict]) -> CameraImages:
        """Normalise and pad the "image" (N, 3, H, W) of each sample; keep its "lidar2img"."""
        cameras = [{"image": image} for item in batch for image in item["image"]]
        lidar2img = torch.stack([torch.as_tensor(item["lidar2img"]) for item in batch])
        images = CameraImages.of(super().preprocess(cameras), lidar2img.to(self.pixel_mean))
        images.tensor = self.grid_mask(images.tensor)
        return images

    def targets(self, batch: list[dict]) -> list[SetTargets]:
        """Return the codes and classes per sample, from "instances" with `gt_boxes_3d`."""
        found = zip(super().targets(batch), batch, strict=True)
        return [
            space_targets(
                self._switch(instances.gt_boxes_3d),
                instances.gt_classes,
                str(item.get("image_id", "")),
            )
            for instances, item in found
        ]

    def predict(self, images: CameraImages) -> SetPredictions:
        """Predict logits and codes per layer and query."""
        features = self.backbone(images.tensor)
        levels = [features[name] for name in self.in_features]
        height, width = images.tensor.shape[-2:]
        return self.head(CameraView(levels, images.lidar2img, (height, width)))

    def losses(self, images: Any, targets: list[SetTargets]) -> dict[str, Tensor]:
        return self.criterion([self.predict(images)], SetTargets.cat(targets))

    def detect(self, images: Any) -> list[SpaceDetections]:
        """Predict boxes in the lidar frame, in the convention before mmdetection3d 1.0."""
        return self.decode(self.predict(images))

    def decode(self, found: SetPredictions) -> list[SpaceDetections]:
        """Decode the last layer's predictions of each sample."""
        options = self.max_detections, self.centre_range
        last = zip(found.logits[-1], found.boxes[-1], strict=True)
        detections = [decode_detections(logits, codes, *options) for logits, codes in last]
        for each in detections:
            each.boxes = self._switch(each.boxes)
        return detections

    def postprocess(self, found: SpaceDetections, height: int, width: int) -> dict[str, Any]:
        """Return the boxes in space as "boxes_3d"; the size of the images does not matter."""
        return {"boxes_3d": found}

    def _switch(self, boxes: Tensor) -> Tensor:
        """Convert between the data's convention of boxes and that of the weights."""
        return switch_convention(boxes) if self.other_convention else boxes


def build_criterion(cfg: CfgNode) -> SpaceCriterion:
    """Build matcher and losses from `MODEL.DETR3D`."""
    matching, loss = cfg.MODEL.DETR3D.MATCHER, cfg.MODEL.DETR3D.LOSS
    matcher = SpaceMatcher(
        class_weight=matching.CLASS_WEIGHT,
        l1_weight=matching.L1_WEIGHT,
        giou_weight=0.0,
        focal_alpha=loss.FOCAL_ALPHA,
        focal_gamma=loss.FOCAL_GAMMA,
    )
    weights = {"loss_ce": loss.CLASS_WEIGHT, "loss_bbox": loss.L1_WEIGHT}
    return SpaceCriterion(matcher, weights, code_weights=tuple(loss.CODE_WEIGHTS))
