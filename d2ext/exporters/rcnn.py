"""The exporter of R-CNNs: a fixed number of proposals, with boxes, masks and keypoints."""

from typing import Any

import torch
from torch import Tensor

from d2ext.errors import ConfigError
from d2ext.exporters.exporter import MOST_CANDIDATES, NMSExporter, register_exporter
from d2ext.exporters.paste_masks import paste_masks
from d2ext.exporters.proposals import select_proposals
from d2ext.exporters.roi_pooling import check_pooler, pool_regions
from d2ext.exporters.selection import clipped
from d2ext.modeling.dense_heads import LevelPredictions, PostProcess
from detectron2.modeling import GeneralizedRCNN, PanopticFPN
from detectron2.modeling.roi_heads import (
    BaseKeypointRCNNHead,
    BaseMaskRCNNHead,
    CascadeROIHeads,
    Res5ROIHeads,
    StandardROIHeads,
)
from detectron2.structures import Instances

Features = dict[str, Tensor]
Raw = dict[str, list[Tensor]]


class RCNNExporter(NMSExporter):
    """Raw outputs: "proposals" (B, P, 4), "scores" (B, P, classes), "deltas" (B, P, 4 or more).

    P is `MODEL.RPN.POST_NMS_TOPK_TEST`; of a cascade they are those of the last stage. Detections
    also have "masks" (B, N, M, M), probabilities inside their boxes, or pasted (B, N, H, W) bool,
    and "keypoint_heatmaps" (B, N, K, S, S), logits inside their boxes.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        if isinstance(model, PanopticFPN):
            raise ConfigError(
                "MODEL.META_ARCHITECTURE: PanopticFPN cannot be exported: its file would hold no "
                "semantic maps. `MODEL.META_ARCHITECTURE GeneralizedRCNN` exports its boxes and "
                "masks alone; Mask2Former (projects/maskformer) is exported with things and stuff."
            )
        self.heads: Any = model.roi_heads
        _check_heads(self.heads)
        self.cascaded = isinstance(self.heads, CascadeROIHeads)
        last = self._predictors()[-1]
        candidates = max(MOST_CANDIDATES, model.proposal_generator.post_nms_topk[False])
        most = last.test_topk_per_image
        self.postprocess = PostProcess(
            score_thresh=last.test_score_thresh,
            topk_candidates=candidates,
            nms_thresh=last.test_nms_thresh,
            max_detections=most if most >= 0 else candidates,
        )

    def set_score_threshold(self, value: float) -> None:
        super().set_score_threshold(value)
        self._predictors()[-1].test_score_thresh = value

    def check_outputs(self) -> None:
        if not self.heads.mask_on:
            super().check_outputs()

    def detect(self, images: Tensor) -> list[Instances]:
        """Run the model; masks stay inside their boxes unless `paste`."""
        if self.paste:
            return super().detect(images)
        found = self.model.inference([{"image": image} for image in images], do_postprocess=False)
        return [instances[instances.pred_boxes.nonempty()] for instances in found]

    def detections(self, images: Tensor) -> dict[str, Tensor]:
        height, width = images.shape[-2:]
        features = self.model.backbone(self.pad(self.normalize(images)))
        levels = self.decode(self._box_outputs(features, height, width))
        # Before NMS, as Fast R-CNN does it.
        levels.boxes = [clipped(boxes, height, width) for boxes in levels.boxes]
        found = self.finish(levels, height, width)
        if self.heads.mask_on:
            masks = self._masks(features, found["boxes"], found["classes"])
            if self.paste:
                masks = paste_masks(masks, found["boxes"], height, width)
            found["masks"] = masks
        if getattr(self.heads, "keypoint_on", False):
            regions = self._pooled("keypoint", features, found["boxes"])
            logits = self.heads.keypoint_head.layers(regions)
            found["keypoint_heatmaps"] = logits.unflatten(0, found["classes"].shape)
        return found

    def head(self, images: Tensor) -> Raw:
        features = self.model.backbone(self.pad(images))
        return self._box_outputs(features, images.shape[-2], images.shape[-1])

    def decode(self, raw: Raw) -> LevelPredictions:
        (proposals,), (scores,), (deltas,) = raw["proposals"], raw["scores"], raw["deltas"]
        boxes = _decoded(self._predictors()[-1], deltas, proposals)
        if deltas.shape[-1] > 4:
            boxes = boxes.unflatten(-1, (-1, 4))  # a box of each class
        kept = scores > self.postprocess.score_thresh
        return LevelPredictions([boxes], [torch.where(kept, scores, 0.0)])

    def _predictors(self) -> list[Any]:
        predictor = self.heads.box_predictor
        return list(predictor) if self.cascaded else [predictor]

    def _box_outputs(self, features: Features, height: int, width: int) -> Raw:
        """Compute the raw outputs of (B, 3, height, width) images from their features."""
        rpn = self.model.proposal_generator
        levels = [features[name] for name in rpn.in_features]
        proposals, valid = select_proposals(rpn, levels, height, width, self.for_onnx)
        predictors, scores = self._predictors(), []
        for stage, predictor in enumerate(predictors):
            regions = self._box_features(features, proposals, stage)
            logits, deltas = (x.unflatten(0, valid.shape) for x in predictor(regions))
            sigmoid = getattr(predictor, "use_sigmoid_ce", False)
            scores.append((logits.sigmoid() if sigmoid else logits.softmax(-1))[..., :-1])
            if predictor is not predictors[-1]:
                proposals = clipped(_decoded(predictor, deltas, proposals), height, width)
        mean = torch.stack(scores).mean(0)
        # Places without a proposal give no detections.
        mean = torch.where(valid.unsqueeze(-1) > 0, mean, 0.0)
        return {"proposals": [proposals], "scores": [mean], "deltas": [deltas]}

    def _box_features(self, features: Features, proposals: Tensor, stage: int) -> Tensor:
        """Compute what the predictor of a stage takes, of all proposals: (B * P, F)."""
        regions = self._pooled("box", features, proposals)
        if isinstance(self.heads, Res5ROIHeads):
            return regions.mean(dim=(2, 3))
        return (self.heads.box_head[stage] if self.cascaded else self.heads.box_head)(regions)

    def _masks(self, features: Features, boxes: Tensor, classes: Tensor) -> Tensor:
        """Return the probabilities (B, N, M, M) of the mask of each box's class."""
        logits = self.heads.mask_head.layers(self._pooled("mask", features, boxes))
        if logits.shape[1] == 1:  # one for all classes
            return logits.squeeze(1).unflatten(0, classes.shape).sigmoid()
        # Places without a detection have class -1.
        index = classes.clamp(min=0).flatten()[:, None, None, None]
        own = logits.gather(1, index.expand(-1, -1, *logits.shape[2:])).squeeze(1)
        return own.unflatten(0, classes.shape).sigmoid()

    def _pooled(self, kind: str, features: Features, boxes: Tensor) -> Tensor:
        """Pool the features that a kind of head takes at boxes (B, P, 4): (B * P, C, h, w)."""
        heads = self.heads
        if isinstance(heads, Res5ROIHeads):
            levels = [features[name] for name in heads.in_features]
            return heads.res5(pool_regions(heads.pooler, levels, boxes))
        levels = [features[name] for name in getattr(heads, f"{kind}_in_features")]
        return pool_regions(getattr(heads, f"{kind}_pooler"), levels, boxes)


def _decoded(predictor: Any, deltas: Tensor, proposals: Tensor) -> Tensor:
    """Apply (B, P, 4 or classes * 4) deltas to (B, P, 4) proposals; boxes have their shape."""
    flat = deltas.flatten(0, 1), proposals.flatten(0, 1)
    return predictor.box2box_transform.apply_deltas(*flat).view(deltas.shape)


def _check_heads(heads: Any) -> None:
    """Raise a ConfigError for heads that compute something else than the exporter."""
    if isinstance(heads, Res5ROIHeads):
        check_pooler(heads.pooler)
        return
    if not isinstance(heads, StandardROIHeads):
        raise ConfigError(
            f"MODEL.ROI_HEADS.NAME: {type(heads).__name__} cannot be exported; those that can: "
            "CascadeROIHeads, Res5ROIHeads, StandardROIHeads."
        )
    check_pooler(heads.box_pooler)
    for kind, base in (("mask", BaseMaskRCNNHead), ("keypoint", BaseKeypointRCNNHead)):
        if not getattr(heads, f"{kind}_on"):
            continue
        head = getattr(heads, f"{kind}_head")
        if not isinstance(head, base):
            raise ConfigError(
                f"MODEL.ROI_{kind.upper()}_HEAD.NAME: {type(head).__name__} cannot be exported; "
                f"subclasses of {base.__name__} can."
            )
        check_pooler(getattr(heads, f"{kind}_pooler"))


register_exporter(GeneralizedRCNN, RCNNExporter)
