"""The region proposal network for rotated boxes (Ma et al. 2018, arXiv:1703.01086)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from detectron2.config import configurable
from detectron2.layers import ShapeSpec, batched_nms_rotated
from detectron2.structures import Instances, RotatedBoxes, pairwise_iou_rotated

from ..box_regression import Box2BoxTransformRotated
from .build import PROPOSAL_GENERATOR_REGISTRY
from .proposal_utils import best_of_levels, finite_rows
from .rpn import RPN

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def find_top_rrpn_proposals(
    proposals: list[Tensor],
    pred_objectness_logits: list[Tensor],
    image_sizes: list[tuple[int, int]],
    nms_thresh: float,
    pre_nms_topk: int,
    post_nms_topk: int,
    min_box_size: float,
    training: bool,
) -> list[Instances]:
    """Select the best rotated boxes, (N, Ri, 5) per level; see `find_top_rpn_proposals`."""
    boxes, logits, levels = best_of_levels(proposals, pred_objectness_logits, pre_nms_topk)
    results = []
    for image, size in enumerate(image_sizes):
        finite = finite_rows(boxes[image], logits[image], training)
        rotated = RotatedBoxes(boxes[image][finite])
        rotated.clip(size)
        found = Instances(size, proposal_boxes=rotated, objectness_logits=logits[image][finite])
        large = rotated.nonempty(threshold=min_box_size)
        found = found[large]
        keep = batched_nms_rotated(
            found.proposal_boxes.tensor, found.objectness_logits, levels[finite][large], nms_thresh
        )
        results.append(found[keep[:post_nms_topk]])
    return results


@PROPOSAL_GENERATOR_REGISTRY.register()
class RRPN(RPN):
    """`RPN` with rotated anchors, whose borders cannot be compared with the image's."""

    box_type = RotatedBoxes
    _pairwise_iou = staticmethod(pairwise_iou_rotated)
    _find_top = staticmethod(find_top_rrpn_proposals)

    @configurable
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.anchor_boundary_thresh >= 0:
            raise NotImplementedError(
                "rotated anchors are not compared with the image's border: "
                "MODEL.RPN.BOUNDARY_THRESH must be below 0"
            )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        options = super().from_config(cfg, input_shape)
        weights = cfg.MODEL.RPN.BBOX_REG_WEIGHTS
        return {**options, "box2box_transform": Box2BoxTransformRotated(weights=weights)}
