"""Base of single-stage detectors: preprocessing, layout of predictions, decoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from detectron2.layers import batched_nms, cat, move_device_like
from detectron2.layers.wrappers import at_most
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import get_event_storage

from ..backbone import Backbone
from ..postprocessing import detector_postprocess, postprocess_to_input

if TYPE_CHECKING:
    Inputs = list[dict[str, Any]]
    Outputs = Any
else:  # TorchScript compiles inference only
    Inputs = list[dict[str, Tensor]]
    Outputs = list[Instances]


def permute_to_N_HWA_K(tensor: Tensor, K: int) -> Tensor:
    """Permute (N, A * K, H, W) to (N, H * W * A, K): one row per anchor."""
    n, _, height, width = tensor.shape
    rows = tensor.reshape(n, -1, K, height, width).permute(0, 3, 4, 1, 2)
    return rows.reshape(n, -1, K)


class DenseDetector(nn.Module):
    """A backbone and a head that predicts at every position of its feature maps.

    A subclass defines `forward_training(images, features, predictions, gt_instances)`, which
    returns a dict of losses, and `forward_inference(images, features, predictions)`, which returns
    one `Instances` per image.

    Args:
        backbone: computes the features.
        head: called with the list of features; returns a list of predictions by kind, each a list
            of (N, A * K, H, W) by level.
        head_in_features: names of the features; by default all of the backbone's.
        pixel_mean, pixel_std: mean and standard deviation per image channel.
    """

    if TYPE_CHECKING:  # TorchScript would read these annotations
        pixel_mean: Tensor
        pixel_std: Tensor
        box2box_transform: Any  # set by subclasses that decode boxes
        test_score_thresh: float  # set, with the next three, by subclasses
        test_topk_candidates: int
        test_nms_thresh: float
        max_detections_per_image: int
        input_format: str  # set by subclasses that draw

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: Sequence[str] | None = None,
        *,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        if head_in_features is None:
            shapes: Mapping[str, Any] = backbone.output_shape()
            head_in_features = sorted(shapes, key=lambda name: shapes[name].stride)
        self.head_in_features = list(head_in_features)
        for name, values in {"pixel_mean": pixel_mean, "pixel_std": pixel_std}.items():
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def _move_to_current_device(self, x: Tensor) -> Tensor:
        return move_device_like(x, self.pixel_mean)

    def forward(self, batched_inputs: Inputs) -> Outputs:
        """Return losses in training, otherwise a list of {"instances": Instances}.

        Compiled by TorchScript, it returns `Instances` in the coordinates of the network's input.

        Args:
            batched_inputs: per image a dict of "image": (C, H, W), in training "instances" with
                `gt_boxes` and `gt_classes`, in inference optionally "height" and "width" of the
                detections' coordinates (by default the image's).

        Raises:
            ValueError: training without instances.
        """
        images = self.preprocess_image(batched_inputs)
        maps = self.backbone(images.tensor)
        features = [maps[name] for name in self.head_in_features]
        predictions = self.head(features)
        if self.training:
            if "instances" not in batched_inputs[0]:
                raise ValueError("training wants 'instances' in every input, found none")
            targets = [x["instances"].to(self.device) for x in batched_inputs]
            return self.forward_training(images, features, predictions, targets)
        found: Outputs = self.forward_inference(images, features, predictions)
        if not torch.jit.is_scripting():
            found = [
                {"instances": postprocess_to_input(r, x, size)}
                for r, x, size in zip(found, batched_inputs, images.image_sizes, strict=True)
            ]
        return found

    def forward_training(
        self, images: ImageList, features: Any, predictions: Any, gt_instances: Any
    ) -> dict[str, Tensor]:
        raise NotImplementedError

    def forward_inference(
        self, images: ImageList, features: Any, predictions: Any
    ) -> list[Instances]:
        raise NotImplementedError

    def preprocess_image(self, batched_inputs: Inputs) -> ImageList:
        """Normalise the images and pad them to one batch."""
        images = [self._move_to_current_device(x["image"]) for x in batched_inputs]
        return ImageList.from_tensors(
            [(image - self.pixel_mean) / self.pixel_std for image in images],
            self.backbone.size_divisibility,
            padding_constraints=self.backbone.padding_constraints,
        )

    def _transpose_dense_predictions(
        self, predictions: list[list[Tensor]], dims_per_anchor: list[int]
    ) -> list[list[Tensor]]:
        """Permute (N, A * K, H, W) to (N, H * W * A, K) for each kind of prediction."""
        if len(predictions) != len(dims_per_anchor):
            raise ValueError(f"{len(predictions)} kinds of predictions, {dims_per_anchor} given")
        return [
            [permute_to_N_HWA_K(level, dim) for level in levels]
            for levels, dim in zip(predictions, dims_per_anchor, strict=True)
        ]

    def _ema_update(
        self, name: str, value: float, initial_value: float, momentum: float = 0.9
    ) -> float:
        """Update the running mean `name`, an attribute created on first use, towards `value`."""
        mean = getattr(self, name, None)
        mean = initial_value if mean is None else mean
        mean = mean * momentum + value * (1 - momentum)
        setattr(self, name, mean)
        return mean

    def _decode_per_level_predictions(
        self,
        anchors: Boxes,
        pred_scores: Tensor,
        pred_deltas: Tensor,
        score_thresh: float,
        topk_candidates: int,
        image_size: tuple[int, int],
    ) -> Instances:
        """Decode the best boxes of one level of one image.

        Args:
            anchors: R boxes.
            pred_scores: (R, classes).
            pred_deltas: (R, 4).
        """
        candidates = (pred_scores > score_thresh).nonzero()
        scores = pred_scores[candidates[:, 0], candidates[:, 1]]
        scores, best = scores.topk(at_most(topk_candidates, scores.shape[0]))
        rows, classes = candidates[best].unbind(1)
        boxes = self.box2box_transform.apply_deltas(pred_deltas[rows], anchors.tensor[rows])
        return Instances(image_size, pred_boxes=Boxes(boxes), scores=scores, pred_classes=classes)

    def _decode_multi_level_predictions(
        self,
        anchors: list[Boxes],
        pred_scores: list[Tensor],
        pred_deltas: list[Tensor],
        score_thresh: float,
        topk_candidates: int,
        image_size: tuple[int, int],
    ) -> Instances:
        """Decode the best boxes of all levels, before NMS."""
        levels = [
            self._decode_per_level_predictions(
                boxes, scores, deltas, score_thresh, topk_candidates, image_size
            )
            for boxes, scores, deltas in zip(anchors, pred_scores, pred_deltas, strict=True)
        ]
        return levels[0].cat(levels)  # TorchScript calls static methods on objects only

    def inference_single_image(
        self,
        anchors: list[Boxes],
        box_cls: list[Tensor],
        box_delta: list[Tensor],
        image_size: tuple[int, int],
    ) -> Instances:
        """Decode one image, apply NMS and keep the best detections.

        Args:
            anchors, box_cls, box_delta: per level; scores (Ri, num_classes), deltas (Ri, 4).
            image_size: (height, width) of the network's input without padding.
        """
        found = self._decode_multi_level_predictions(
            anchors,
            box_cls,
            box_delta,
            self.test_score_thresh,
            self.test_topk_candidates,
            image_size,
        )
        keep = batched_nms(
            found.pred_boxes.tensor, found.scores, found.pred_classes, self.test_nms_thresh
        )
        return found[keep[: self.max_detections_per_image]]

    def visualize_training(self, batched_inputs: list[dict], results: list[Instances]) -> None:
        """Draw the first image's ground truth above its 20 best predictions."""
        # Imported here, because only drawing needs the data and plotting packages.
        from detectron2.data.detection_utils import convert_image_to_rgb
        from detectron2.utils.visualizer import Visualizer

        image = convert_image_to_rgb(batched_inputs[0]["image"].permute(1, 2, 0), self.input_format)
        truth = batched_inputs[0]["instances"].gt_boxes
        found = detector_postprocess(results[0], image.shape[0], image.shape[1])
        boxes = found.pred_boxes.tensor[:20].detach().cpu().numpy()
        pictures = [
            torch.from_numpy(Visualizer(image, None).overlay_instances(boxes=b).get_image())
            for b in (truth, boxes)
        ]
        name = "Top: GT bounding boxes; Bottom: 20 Highest Scoring Results"
        get_event_storage().put_image(name, cat(pictures).permute(2, 0, 1).numpy())
