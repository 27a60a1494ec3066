"""The exporter of RPNs alone: detections are proposals of one class."""

import torch
from torch import Tensor

from d2ext.exporters.exporter import Exporter, register_exporter
from d2ext.exporters.proposals import select_proposals
from d2ext.exporters.selection import Selected, topk_candidates
from d2ext.modeling.dense_heads import LevelPredictions
from detectron2.modeling import ProposalNetwork
from detectron2.structures import Instances

Raw = dict[str, list[Tensor]]


class ProposalExporter(Exporter):
    """Raw outputs: "proposals" (B, P, 4) and "odds" (B, P), exponentials of objectness logits.

    P is `MODEL.RPN.POST_NMS_TOPK_TEST`. NMS is within the levels, so it is part of all outputs.
    """

    pads = True

    def detect(self, images: Tensor) -> list[Instances]:
        height, width = images.shape[-2:]
        batch = [{"image": image, "height": height, "width": width} for image in images]
        return [_as_detections(found["proposals"]) for found in self.model(batch)]

    def head(self, images: Tensor) -> Raw:
        rpn, features = self.model.proposal_generator, self.model.backbone(self.pad(images))
        levels = [features[name] for name in rpn.in_features]
        size = images.shape[-2], images.shape[-1]
        proposals, odds = select_proposals(rpn, levels, *size, self.for_onnx)
        return {"proposals": [proposals], "odds": [odds]}

    def decode(self, raw: Raw) -> LevelPredictions:
        (odds,) = raw["odds"]
        return LevelPredictions(raw["proposals"], [(odds / (1 + odds)).unsqueeze(-1)])

    def select(self, levels: LevelPredictions) -> Selected:
        return topk_candidates(levels, self.model.proposal_generator.post_nms_topk[False])


register_exporter(ProposalNetwork, ProposalExporter)


def _as_detections(proposals: Instances) -> Instances:
    found = Instances(proposals.image_size, pred_boxes=proposals.proposal_boxes)
    found.scores = proposals.objectness_logits.sigmoid()
    found.pred_classes = torch.zeros_like(found.scores, dtype=torch.int64)
    return found
