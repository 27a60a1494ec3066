"""Two-stage detectors, and their first stage alone (Ren et al. 2015, arXiv:1506.01497)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from detectron2.config import configurable
from detectron2.layers import move_device_like
from detectron2.structures import ImageList, Instances
from detectron2.utils.events import get_event_storage

from ..backbone import Backbone, build_backbone
from ..postprocessing import postprocess_to_input
from ..proposal_generator import build_proposal_generator
from ..roi_heads import build_roi_heads
from .build import META_ARCH_REGISTRY
from .dense_detector import Inputs, Outputs

if TYPE_CHECKING:
    from detectron2.config import CfgNode

__all__ = ["GeneralizedRCNN", "ProposalNetwork"]


class _NormalisedImages:
    """Methods of the models with a backbone and normalised images.

    It has no constructor: `super(GeneralizedRCNN, self).__init__()` of packages is nn.Module's.
    """

    if TYPE_CHECKING:  # TorchScript would read them too
        backbone: Backbone
        pixel_mean: Tensor
        pixel_std: Tensor

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def _move_to_current_device(self, x: Tensor) -> Tensor:
        return move_device_like(x, self.pixel_mean)

    def preprocess_image(self, batched_inputs: Inputs) -> ImageList:
        """Normalise the images and pad them to one batch."""
        images = [self._move_to_current_device(x["image"]) for x in batched_inputs]
        return ImageList.from_tensors(
            [(image - self.pixel_mean) / self.pixel_std for image in images],
            self.backbone.size_divisibility,
            padding_constraints=self.backbone.padding_constraints,
        )

    def _instances(self, batched_inputs: list[dict[str, Any]], name: str) -> list[Instances]:
        return [x[name].to(self.device) for x in batched_inputs]


def _register_pixel_statistics(
    model: nn.Module, mean: Sequence[float], std: Sequence[float]
) -> None:
    if len(mean) != len(std):
        raise ValueError(f"{len(mean)} channels in pixel_mean, {len(std)} in std")
    for name, values in {"pixel_mean": mean, "pixel_std": std}.items():
        model.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)


@META_ARCH_REGISTRY.register()
class GeneralizedRCNN(_NormalisedImages, nn.Module):
    """Generalized R-CNN: backbone features, region proposals, and heads on each proposal.

    Args:
        backbone: computes the features.
        proposal_generator: computes proposals; None if they come with the images.
        roi_heads: computes detections.
        pixel_mean, pixel_std: mean and standard deviation per image channel.
        input_format: channel order of the images, for drawing; required with `vis_period`.
        vis_period: iterations between visualisations of the training; 0: none.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        proposal_generator: nn.Module | None,
        roi_heads: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str | None = None,
        vis_period: int = 0,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.proposal_generator: Any = proposal_generator
        _register_pixel_statistics(self, pixel_mean, pixel_std)
        self.roi_heads: Any = roi_heads
        self.input_format, self.vis_period = input_format, vis_period
        if vis_period > 0 and input_format is None:
            raise ValueError("pictures of the training need input_format")

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        backbone = build_backbone(cfg)
        shapes = backbone.output_shape()
        return {
            "backbone": backbone,
            "proposal_generator": build_proposal_generator(cfg, shapes),
            "roi_heads": build_roi_heads(cfg, shapes),
            "input_format": cfg.INPUT.FORMAT,
            "vis_period": cfg.VIS_PERIOD,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    def forward(self, batched_inputs: Inputs) -> Outputs:
        """Return losses in training, otherwise a list of {"instances": Instances}.

        Args:
            batched_inputs: per image a dict of "image": (C, H, W), in training "instances" with
                `gt_boxes`, `gt_classes` and further targets of the heads, "proposals" without a
                proposal generator, and optionally "height" and "width" of the detections'
                coordinates (by default the image's).
        """
        if self.training:
            return self._losses(batched_inputs)
        return self.inference(batched_inputs)

    def _losses(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        images = self.preprocess_image(batched_inputs)
        truth = None
        if "instances" in batched_inputs[0]:
            truth = self._instances(batched_inputs, "instances")
        features = self.backbone(images.tensor)
        losses = {}
        if self.proposal_generator is None:
            proposals = self._instances(batched_inputs, "proposals")
        else:
            proposals, losses = self.proposal_generator(images, features, truth)
        _, detector_losses = self.roi_heads(images, features, proposals, truth)
        if self.vis_period > 0 and get_event_storage().iter % self.vis_period == 0:
            self.visualize_training(batched_inputs, proposals)
        return {**detector_losses, **losses}

    def inference(
        self,
        batched_inputs: Inputs,
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> Outputs:
        """Return the detections of each image.

        Args:
            batched_inputs: as in `forward`.
            detected_instances: with `pred_boxes` and `pred_classes` in the coordinates of the
                images; if given, only masks and keypoints are added to them.
            do_postprocess: rescale to the "height" and "width" of the inputs.

        Returns:
            {"instances": Instances} per image; without `do_postprocess`, which TorchScript does
            not compile, `Instances`.
        """
        if self.training:
            raise RuntimeError("inference in training: call eval() first")
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        if detected_instances is not None:
            found = [instances.to(self.device) for instances in detected_instances]
            found = self.roi_heads.forward_with_given_boxes(features, found)
        else:
            if self.proposal_generator is None:
                proposals = self._instances(batched_inputs, "proposals")
            else:
                proposals, _ = self.proposal_generator(images, features, None)
            found, _ = self.roi_heads(images, features, proposals, None)
        if do_postprocess:
            if torch.jit.is_scripting():
                raise NotImplementedError("compiled models are called with do_postprocess=False")
            return self._postprocess(found, batched_inputs, images.image_sizes)
        return found

    @staticmethod
    def _postprocess(
        instances: list[Instances],
        batched_inputs: list[dict[str, Any]],
        image_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Instances]]:
        """Rescale the detections to the output size of each input."""
        return [
            {"instances": postprocess_to_input(found, x, size)}
            for found, x, size in zip(instances, batched_inputs, image_sizes, strict=True)
        ]

    def visualize_training(self, batched_inputs: list[dict], proposals: list[Instances]) -> None:
        """Draw the first image's ground truth beside its 20 best proposals."""
        # Drawing needs the data and plotting packages, detecting does not.
        from detectron2.data.detection_utils import convert_image_to_rgb
        from detectron2.utils.visualizer import Visualizer

        first = batched_inputs[0]
        image = convert_image_to_rgb(first["image"].permute(1, 2, 0), self.input_format or "BGR")
        best = proposals[0].proposal_boxes[:20].tensor.detach().cpu().numpy()
        pictures = [
            Visualizer(image, None).overlay_instances(boxes=boxes).get_image()
            for boxes in (first["instances"].gt_boxes, best)
        ]
        name = "Left: GT bounding boxes;  Right: Predicted proposals"
        get_event_storage().put_image(name, np.concatenate(pictures, axis=1).transpose(2, 0, 1))


@META_ARCH_REGISTRY.register()
class ProposalNetwork(_NormalisedImages, nn.Module):
    """The first stage of `GeneralizedRCNN`, with the same arguments."""

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        proposal_generator: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.proposal_generator: Any = proposal_generator
        _register_pixel_statistics(self, pixel_mean, pixel_std)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "proposal_generator": build_proposal_generator(cfg, backbone.output_shape()),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict]:
        """Return losses in training, otherwise a list of {"proposals": Instances}.

        Inputs are those of `GeneralizedRCNN`.
        """
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        truth = None
        if "instances" in batched_inputs[0]:
            truth = self._instances(batched_inputs, "instances")
        proposals, losses = self.proposal_generator(images, features, truth)
        if self.training:
            return losses
        return [
            {"proposals": postprocess_to_input(found, x, size)}
            for found, x, size in zip(proposals, batched_inputs, images.image_sizes, strict=True)
        ]
