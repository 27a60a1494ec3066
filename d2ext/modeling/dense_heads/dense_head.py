"""The base class of dense heads, and the order in which they list the cells of a level."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from d2ext.modeling.dense_heads.postprocess import Candidates, PostProcess
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.structures import Instances


@dataclass
class LevelPredictions:
    """Decoded per-level predictions of a batch, of fixed shape as exported graphs need it.

    Attributes:
        boxes: per level, (B, A_l, 4) XYXY in pixels of the input, or (B, A_l, classes, 4).
        scores: per level, (B, A_l, classes) in [0, 1]; 0 where a class is below the threshold.
    """

    boxes: list[Tensor]
    scores: list[Tensor]


class DenseHead(ABC, nn.Module):
    """Base of heads that predict at every cell and leave the rest to NMS.

    A subclass implements `forward`, which returns a dataclass of per-level lists, and the two ways
    to decode it: `candidates`, the fast one, and `decode_dense`, the one that can be exported.

    Attributes:
        criterion: computes losses by name from predictions and ground truth.
        postprocess: thresholds of the detections.
        rotated: boxes are XYWHA, not XYXY.
    """

    rotated: ClassVar[bool] = False
    criterion: Callable[[Any, list[Instances]], dict[str, Tensor]]
    postprocess: PostProcess

    # Called with the fields of the predictions by name, as tensors; returns boxes and scores of
    # every cell.
    decode_dense: Callable[..., LevelPredictions]

    def losses(self, predictions: Any, instances: list[Instances]) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            instances: per image, with `gt_boxes` and `gt_classes`; an image may have none.
        """
        return self.criterion(predictions, instances)

    def decode(self, predictions: Any, image_sizes: Sequence[tuple[int, int]]) -> list[Instances]:
        """Return the detections per image: `pred_boxes` in its pixels, `scores`, `pred_classes`.

        Args:
            image_sizes: (height, width) per image, without padding.
        """
        return [
            self.postprocess.detections(self.candidates(predictions, index), size)
            for index, size in enumerate(image_sizes)
        ]

    @abstractmethod
    def candidates(self, predictions: Any, index: int) -> Iterator[Candidates]:
        """Yield, per level, what of image `index` passes the threshold, best first."""


def head_options(
    cfg: CfgNode, section: CfgNode, input_shapes: dict[str, ShapeSpec]
) -> dict[str, Any]:
    """Return a head's keyword arguments: the keys of its section, lower-case, and `postprocess`."""
    # Thresholds of inference (`*_TEST`) are grouped in `postprocess`.
    options = {key.lower(): value for key, value in section.items() if not key.endswith("_TEST")}
    postprocess = PostProcess.from_config(cfg, section)
    return {"input_shapes": input_shapes, **options, "postprocess": postprocess}


def flatten_cells(level: Tensor, per_anchor: int) -> Tensor:
    """Reshape (B, A * per_anchor, H, W) to (B, H * W * A, per_anchor), the order of anchors."""
    level = level.unflatten(1, (-1, per_anchor))  # (B, A, per_anchor, H, W)
    return level.permute(0, 3, 4, 1, 2).flatten(1, 3)


def cell_centers(level: Tensor, stride: int) -> Tensor:
    """Return the centres of the cells of (B, C, H, W) features: (H * W, 2) XY in image pixels."""
    height, width = level.shape[-2:]
    y, x = (
        torch.arange(count, device=level.device, dtype=torch.float32) * stride + stride // 2
        for count in (height, width)
    )
    return torch.cartesian_prod(y, x).flip(1)


def apply_dense_deltas(transform: Any, deltas: Tensor, anchors: Tensor) -> Tensor:
    """Apply (B, A, 4) deltas to (A, 4) anchors with a `Box2BoxTransform`: (B, A, 4) boxes."""
    repeated = anchors.expand(deltas.shape[0], -1, -1).reshape(-1, 4)
    return transform.apply_deltas(deltas.reshape(-1, 4), repeated).view(deltas.shape)
