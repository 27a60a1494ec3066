"""The outputs of each kind of detector, by the keys of the cases."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from d2ext.errors import DataError
from d2ext.modeling.dense_heads import ATSSHead, FCOSHead, PostProcess
from d2ext.parity.box_matching import match_to_reference
from d2ext.parity.case import Case
from d2ext.parity.fixed_regions import fixed_regions, stored_boxes
from d2ext.registry import ExtensionRegistry
from detectron2.modeling import GeneralizedRCNN, RetinaNet
from detectron2.structures import Boxes, Instances

Outputs = Iterator[tuple[str, Tensor]]
Seen = dict[str, Any]  # outputs of the recorded modules, by name

_OUTPUTS: ExtensionRegistry[type, type["DetectorOutputs"]] = ExtensionRegistry("detector outputs")


def register_detector_outputs(kind: type, outputs: type["DetectorOutputs"]) -> None:
    """Register the `DetectorOutputs` of a class of detectors.

    Args:
        kind: a dense head or a meta-architecture; subclasses without their own share it.
        outputs: a subclass of `DetectorOutputs`.
    Raises:
        ValueError: `kind` has outputs of its own already.
    """
    _OUTPUTS.register(kind, outputs)


def outputs_for(case: Case, model: Any) -> "DetectorOutputs":
    """Build the `DetectorOutputs` of a model, by its head or else by its own class.

    Raises:
        DataError: none is registered.
    """
    for kind in (*type(getattr(model, "head", None)).__mro__, *type(model).__mro__):
        if kind in _OUTPUTS:
            return _OUTPUTS.get(kind, case.name)(case, model)
    raise DataError(f"{case.name}: no outputs are registered for {type(model).__name__}")


class DetectorOutputs:
    """The outputs of one kind of detector by the keys of the cases.

    Attributes:
        loss_names: the authors' names of losses that we name otherwise.
    """

    loss_names: ClassVar[dict[str, str]] = {}

    def __init__(self, case: Case, model: Any) -> None:
        self.case, self.model = case, model
        self.truth = [item["instances"] for item in case.batch()]

    def recorded_modules(self) -> dict[str, nn.Module]:
        """Return the modules, besides stages of the backbone, that `intermediate` reads."""
        return {"head": self.model.head}

    def intermediate(self, seen: Seen) -> Outputs:
        """Yield the raw outputs of the head, as (B, C, H, W) maps, and what its cells learn."""
        yield from self.raw(seen["head"], seen["fpn"])
        yield from self.assigned(seen["head"])

    def raw(self, head: Any, pyramid: dict[str, Tensor]) -> Outputs:
        """Yield the raw outputs of the head."""
        raise NotImplementedError

    def assigned(self, head: Any) -> Outputs:
        """Yield the assignment: what the cells learn."""
        raise NotImplementedError

    def to_float64(self) -> None:
        """Convert the model to float64, as far as its operators allow."""
        self.model.double()

    def use_alternative(self, settings: dict[str, Any]) -> None:
        """Set the thresholds of the case's alternative postprocessing."""
        before: PostProcess = self.model.head.postprocess
        self.model.head.postprocess = PostProcess(
            score_thresh=settings["score_threshold"],
            topk_candidates=settings.get("pre_nms_topk", before.topk_candidates),
            nms_thresh=settings["nms_threshold"],
            max_detections=settings["max_detections"],
        )

    def detections(self, kind: str, index: int, found: Instances, seen: Seen) -> Outputs:
        """Yield the detections of an image in the reference's order."""
        prefix = f"{kind}{index}"
        found = found[self._order(prefix, found)]
        yield f"{prefix}.boxes", found.pred_boxes.tensor
        yield f"{prefix}.scores", found.scores
        yield f"{prefix}.classes", found.pred_classes

    def _order(self, prefix: str, found: Instances) -> Tensor:
        values = {"scores": found.scores, "classes": found.pred_classes}
        return _match(self.case, prefix, found.pred_boxes, values)


class ATSSOutputs(DetectorOutputs):
    loss_names: ClassVar = {"loss_centerness": "loss_ctr"}

    def raw(self, head: Any, pyramid: dict[str, Tensor]) -> Outputs:
        for i, (level, feature) in enumerate(pyramid.items()):
            yield f"head.logits.{level}", _as_map(head.logits[i], feature)
            yield f"head.deltas.{level}", _as_map(head.deltas[i], feature)
            yield f"head.ctr.{level}", _as_map(head.centerness[i][..., None], feature)
        yield "anchors", Boxes.cat(head.anchors).tensor

    def assigned(self, head: Any) -> Outputs:
        for index, truth in enumerate(self.truth):
            targets = self.model.head.criterion.targets(head.anchors, [truth])
            yield f"assign{index}.index", targets.positive[0].nonzero()[:, 0]
            yield f"assign{index}.class", targets.classes
            yield f"assign{index}.ignored", torch.tensor(0)  # anchors are positive or negative


register_detector_outputs(ATSSHead, ATSSOutputs)


class FCOSOutputs(DetectorOutputs):
    loss_names: ClassVar = {
        "loss_cls": "loss_fcos_cls",
        "loss_box_reg": "loss_fcos_loc",
        "loss_centerness": "loss_fcos_ctr",
        "loss_iou": "loss_fcos_iou",
    }

    def raw(self, head: Any, pyramid: dict[str, Tensor]) -> Outputs:
        for i, (level, feature) in enumerate(pyramid.items()):
            yield f"head.logits.{level}", _as_map(head.logits[i], feature)
            yield f"head.reg.{level}", _as_map(head.ltrb[i], feature)
            yield f"head.ctr.{level}", _as_map(head.quality[i][..., None], feature)

    def assigned(self, head: Any) -> Outputs:
        strides = torch.cat(self._of_locations(head, self.model.head.strides))
        for index, truth in enumerate(self.truth):
            targets = self.model.head.criterion.targets(head.locations, [truth])
            positive = targets.positive[0]
            yield f"assign{index}.index", positive.nonzero()[:, 0]
            yield f"assign{index}.class", targets.classes
            yield f"assign{index}.ltrb", targets.ltrb * strides[positive, None]

    def detections(self, kind: str, index: int, found: Instances, seen: Seen) -> Outputs:
        head = seen["head"]
        found = found[self._order(f"{kind}{index}", found)]
        yield from super().detections(kind, index, found, seen)
        origin = self._origins(index, found, head)
        yield f"{kind}{index}.locations", torch.cat(head.locations)[origin]
        levels = torch.cat(self._of_locations(head, range(len(head.locations))))
        yield f"{kind}{index}.levels", levels[origin]

    def _origins(self, index: int, found: Instances, head: Any) -> Tensor:
        """Return the index of the location that each detection comes from."""
        points = torch.cat(head.locations)
        steps = self._of_locations(head, self.model.head.strides)
        sides = torch.cat([ltrb[index] for ltrb in head.ltrb]) * torch.cat(steps)[:, None]
        boxes = Boxes(torch.cat((points - sides[:, :2], points + sides[:, 2:]), dim=1))
        boxes.clip(found.image_size)
        probability = torch.cat([logits[index] for logits in head.logits]).sigmoid()
        quality = torch.cat([quality[index] for quality in head.quality]).sigmoid()
        # Scores also tell locations with identical boxes apart.
        scores = (probability[:, found.pred_classes] * quality[:, None]).sqrt()  # (L, N)
        apart = torch.cdist(boxes.tensor, found.pred_boxes.tensor, p=torch.inf)
        return (apart + (scores - found.scores).abs()).argmin(dim=0)

    def _of_locations(self, head: Any, values: Sequence[int]) -> list[Tensor]:
        """Repeat the value of each level for all its locations."""
        pairs = zip(head.locations, values, strict=True)
        return [torch.full((len(level),), value) for level, value in pairs]


register_detector_outputs(FCOSHead, FCOSOutputs)


class RetinaNetOutputs(DetectorOutputs):
    def raw(self, head: Any, pyramid: dict[str, Tensor]) -> Outputs:
        for level, logits, deltas in zip(pyramid, *head, strict=True):
            yield f"head.logits.{level}", logits
            yield f"head.deltas.{level}", deltas
        self.anchors = self.model.anchor_generator(list(pyramid.values()))
        yield "anchors", Boxes.cat(self.anchors).tensor

    def assigned(self, head: Any) -> Outputs:
        labels, _ = self.model.label_anchors(self.anchors, self.truth)
        for index, label in enumerate(labels):
            positive = (label >= 0) & (label < self.model.num_classes)
            yield f"assign{index}.index", positive.nonzero()[:, 0]
            yield f"assign{index}.class", label[positive]
            yield f"assign{index}.ignored", (label == -1).sum()

    def use_alternative(self, settings: dict[str, Any]) -> None:
        self.model.test_score_thresh = settings["score_threshold"]
        most = settings.get("pre_nms_topk", self.model.test_topk_candidates)
        self.model.test_topk_candidates = most
        self.model.test_nms_thresh = settings["nms_threshold"]
        self.model.max_detections_per_image = settings["max_detections"]


register_detector_outputs(RetinaNet, RetinaNetOutputs)


class RCNNOutputs(DetectorOutputs):
    # Cases of Detectron2's and of the dynamic head's authors name the RPN's outputs differently.
    rpn_names: ClassVar = {
        "logits": ("rpn.logits", "head.rpn_objectness"),
        "deltas": ("rpn.deltas", "head.rpn_deltas"),
    }

    def recorded_modules(self) -> dict[str, nn.Module]:
        generator = self.model.proposal_generator
        return {"rpn": generator.rpn_head, "proposals": generator}

    def intermediate(self, seen: Seen) -> Outputs:
        for level, logits, deltas in zip(seen["fpn"], *seen["rpn"], strict=True):
            yield from ((f"{name}.{level}", logits) for name in self.rpn_names["logits"])
            yield from ((f"{name}.{level}", deltas) for name in self.rpn_names["deltas"])
        for index, found in enumerate(seen["proposals"][0]):
            prefix = f"proposals{index}"
            boxes, logits = found.proposal_boxes, found.objectness_logits
            order = _match(self.case, prefix, boxes, {"logits": logits})
            yield f"{prefix}.boxes", boxes.tensor[order]
            yield f"{prefix}.logits", logits[order]
        if "proposals0.boxes" in self.case.golden:
            # The reference's proposals: ties would change the order of ours.
            regions = stored_boxes(self.case, "proposals{}.boxes", len(self.truth))
            logits, deltas = list(self._of_regions(seen, regions))[2:]
            yield from (("roi.cls", logits), ("roi.deltas", deltas))
        if any(key.startswith("fixed.") for key in self.case.facts["outputs"]):
            stages = self._of_regions(seen, fixed_regions(self.case, self.truth))
            names = ("pooled", "head", "logits", "deltas")
            yield from ((f"fixed.{name}", stage) for name, stage in zip(names, stages, strict=True))

    def to_float64(self) -> None:
        super().to_float64()
        self.model.proposal_generator.predict_proposals = partial(
            _in_float32, self.model.proposal_generator.predict_proposals
        )

    def use_alternative(self, settings: dict[str, Any]) -> None:
        predictor, generator = self.model.roi_heads.box_predictor, self.model.proposal_generator
        predictor.test_score_thresh = settings["score_threshold"]
        predictor.test_nms_thresh = settings["nms_threshold"]
        predictor.test_topk_per_image = settings["max_detections"]
        most = settings.get("pre_nms_topk", generator.pre_nms_topk[False])
        generator.pre_nms_topk[False] = most

    def _of_regions(self, seen: Seen, regions: list[Boxes]) -> Iterator[Tensor]:
        """Yield what the second stage computes of `regions`: pooled, head, logits and deltas."""
        heads = self.model.roi_heads
        levels = seen.get("dyhead") or seen["fpn"]
        pooled = heads.box_pooler([levels[name] for name in heads.box_in_features], regions)
        hidden = heads.box_head(pooled)
        yield from (pooled, hidden, *heads.box_predictor(hidden))


register_detector_outputs(GeneralizedRCNN, RCNNOutputs)


def _in_float32(
    predict: Callable[..., Any],
    anchors: Any,
    logits: list[Tensor],
    deltas: list[Tensor],
    sizes: Any,
) -> Any:
    """Predict an RPN's proposals in float32, since its NMS takes no float64."""
    return predict(anchors, [x.float() for x in logits], [x.float() for x in deltas], sizes)


def _as_map(cells: Tensor, feature: Tensor) -> Tensor:
    """Reshape (B, H * W, C) to (B, C, H, W)."""
    return cells.transpose(1, 2).unflatten(2, feature.shape[-2:])


def _match(case: Case, prefix: str, boxes: Boxes, values: dict[str, Tensor]) -> Tensor:
    """Return the index of our box that matches each reference box, by place and `values`."""
    if f"{prefix}.boxes" not in case.golden:
        return torch.arange(len(boxes))
    reference = Boxes(torch.from_numpy(case.golden[f"{prefix}.boxes"]))
    expected = (torch.from_numpy(case.golden[f"{prefix}.{name}"]) for name in values)
    return match_to_reference(reference, boxes, zip(expected, values.values(), strict=True))
