"""Cases of whole detectors: features, raw outputs, detections, assignment, losses, gradients."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from d2ext.modeling.meta_arch import ATSS, FCOS
from d2ext.parity.case import Case
from d2ext.parity.settings import detector_config
from detectron2.modeling import RetinaNet, build_model
from detectron2.structures import Boxes, Instances, pairwise_iou
from detectron2.utils.events import EventStorage

Outputs = Iterator[tuple[str, Tensor]]


def detector(case: Case) -> dict[str, Tensor]:
    """Everything that a case of a detector may store, by its keys."""
    model = build_model(detector_config(case.config))
    parameters = case.load(model)
    return dict([*_evaluated(case, model), *_trained(case, model, parameters)])


def _evaluated(case: Case, model: Any) -> Outputs:
    parts = _parts(model)
    seen = watch({**parts, "model": model, "head": model.head})
    view = VIEWS[type(model)](case, model)
    with torch.no_grad():
        model.eval()(case.batch())
        yield "input", _preprocessed(model, case.batch())
        for name in parts:
            yield from _levels(name, seen[name], list(seen["fpn"]))
        yield from view.raw(seen["head"], seen["fpn"])
        yield from view.assigned(seen["head"])
        for index, found in enumerate(seen["model"]):
            yield from view.detections("det", index, found["instances"], seen["head"])
        if "alternative_postprocessing" in case.facts:
            view.use_alternative(case.facts["alternative_postprocessing"])
            for index, found in enumerate(model(case.batch())):
                yield from view.detections("alt", index, found["instances"], seen["head"])


def _trained(case: Case, model: Any, parameters: dict[str, Tensor]) -> Outputs:
    """Losses and gradients, in float64: sampling points that lie within float32's rounding of a
    pixel's border have gradients that differ from machine to machine.
    """
    model.double().train()
    with EventStorage():
        losses = model(case.batch())
    for name, loss in losses.items():
        yield f"loss.{LOSSES.get((type(model), name), name)}", loss
    sum(losses.values()).backward()
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            yield f"grad.{name}", parameter.grad


LOSSES = {
    (ATSS, "loss_centerness"): "loss_ctr",
    (FCOS, "loss_cls"): "loss_fcos_cls",
    (FCOS, "loss_box_reg"): "loss_fcos_loc",
    (FCOS, "loss_centerness"): "loss_fcos_ctr",
    (FCOS, "loss_iou"): "loss_fcos_iou",
}


def _parts(model: Any) -> dict[str, nn.Module]:
    """The stages of the backbone by the names of their outputs."""
    if not hasattr(model.backbone, "blocks"):
        return {"backbone": model.backbone.bottom_up, "fpn": model.backbone}
    pyramid = model.backbone.backbone
    blocks = {f"dyhead{index}": block for index, block in enumerate(model.backbone.blocks)}
    return {"backbone": pyramid.bottom_up, "fpn": pyramid, **blocks, "dyhead": model.backbone}


def watch(modules: dict[str, nn.Module]) -> dict[str, Any]:
    """A dict in which each module's first output appears under its name."""
    seen: dict[str, Any] = {}
    for name, module in modules.items():
        module.register_forward_hook(partial(_keep_first, seen, name))
    return seen


def _keep_first(seen: dict[str, Any], name: str, module: nn.Module, args: Any, output: Any) -> None:
    if name not in seen:
        seen[name] = deepcopy(output)  # some models go on to change it in place


def _levels(name: str, output: Any, names: Sequence[str]) -> Outputs:
    levels = output if isinstance(output, dict) else dict(zip(names, output, strict=True))
    return ((f"{name}.{level}", value) for level, value in levels.items())


def _preprocessed(model: Any, batch: list[dict]) -> Tensor:
    preprocess = getattr(model, "preprocess", None) or model.preprocess_image
    return preprocess(batch).tensor


class View:
    """What one kind of detector gives, by the names of the cases."""

    def __init__(self, case: Case, model: Any) -> None:
        self.case, self.model = case, model
        self.truth = [item["instances"] for item in case.batch()]

    def raw(self, head: Any, pyramid: dict[str, Tensor]) -> Outputs:
        """Raw outputs of the head, as (B, C, H, W) maps."""
        raise NotImplementedError

    def assigned(self, head: Any) -> Outputs:
        """Which anchors or locations have to predict what."""
        raise NotImplementedError

    def use_alternative(self, settings: dict[str, Any]) -> None:
        """Set other thresholds."""
        head = self.model.head
        head.score_thresh, head.nms_thresh = settings["score_threshold"], settings["nms_threshold"]
        head.topk_candidates = settings["pre_nms_topk"]
        head.max_detections = settings["max_detections"]

    def detections(self, kind: str, index: int, found: Instances, head: Any) -> Outputs:
        """Detections of an image in the authors' order."""
        prefix = f"{kind}{index}"
        found = found[_matching(self.case, prefix, found)]
        yield f"{prefix}.boxes", found.pred_boxes.tensor
        yield f"{prefix}.scores", found.scores
        yield f"{prefix}.classes", found.pred_classes


class ATSSView(View):
    def raw(self, head: Any, pyramid: dict[str, Tensor]) -> Outputs:
        for i, (level, feature) in enumerate(pyramid.items()):
            yield f"head.logits.{level}", _as_map(head.logits[i], feature)
            yield f"head.deltas.{level}", _as_map(head.deltas[i], feature)
            yield f"head.ctr.{level}", _as_map(head.centerness[i][..., None], feature)
        yield "anchors", Boxes.cat(head.anchors).tensor

    def assigned(self, head: Any) -> Outputs:
        for index, truth in enumerate(self.truth):
            targets = self.model.head.targets(head.anchors, [truth])
            yield f"assign{index}.index", targets.positive[0].nonzero()[:, 0]
            yield f"assign{index}.class", targets.classes
            yield f"assign{index}.ignored", torch.tensor(0)  # anchors are positive or negative


class FCOSView(View):
    def raw(self, head: Any, pyramid: dict[str, Tensor]) -> Outputs:
        for i, (level, feature) in enumerate(pyramid.items()):
            yield f"head.logits.{level}", _as_map(head.logits[i], feature)
            yield f"head.reg.{level}", _as_map(head.ltrb[i], feature)
            yield f"head.ctr.{level}", _as_map(head.quality[i][..., None], feature)

    def assigned(self, head: Any) -> Outputs:
        strides = torch.cat(self._of_locations(head, self.model.head.strides))
        for index, truth in enumerate(self.truth):
            targets = self.model.head.targets(head.locations, [truth])
            positive = targets.positive[0]
            yield f"assign{index}.index", positive.nonzero()[:, 0]
            yield f"assign{index}.class", targets.classes
            yield f"assign{index}.ltrb", targets.ltrb * strides[positive, None]

    def detections(self, kind: str, index: int, found: Instances, head: Any) -> Outputs:
        found = found[_matching(self.case, f"{kind}{index}", found)]
        yield from super().detections(kind, index, found, head)
        origin = self._origins(index, found, head)
        yield f"{kind}{index}.locations", torch.cat(head.locations)[origin]
        levels = torch.cat(self._of_locations(head, range(len(head.locations))))
        yield f"{kind}{index}.levels", levels[origin]

    def _origins(self, index: int, found: Instances, head: Any) -> Tensor:
        """The location whose own box and score each detection is."""
        points = torch.cat(head.locations)
        steps = self._of_locations(head, self.model.head.strides)
        sides = torch.cat([ltrb[index] for ltrb in head.ltrb]) * torch.cat(steps)[:, None]
        boxes = Boxes(torch.cat((points - sides[:, :2], points + sides[:, 2:]), dim=1))
        boxes.clip(found.image_size)
        probability = torch.cat([logits[index] for logits in head.logits]).sigmoid()
        quality = torch.cat([quality[index] for quality in head.quality]).sigmoid()
        scores = (probability[:, found.pred_classes] * quality[:, None]).sqrt()  # (L, N)
        apart = torch.cdist(boxes.tensor, found.pred_boxes.tensor, p=torch.inf)
        return (apart + (scores - found.scores).abs()).argmin(dim=0)

    def _of_locations(self, head: Any, values: Sequence[int]) -> list[Tensor]:
        """The value of each level, for every location of it."""
        pairs = zip(head.locations, values, strict=True)
        return [torch.full((len(level),), value) for level, value in pairs]


class RetinaNetView(View):
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
        self.model.test_topk_candidates = settings["pre_nms_topk"]
        self.model.test_nms_thresh = settings["nms_threshold"]
        self.model.max_detections_per_image = settings["max_detections"]


VIEWS: dict[type, type[View]] = {ATSS: ATSSView, FCOS: FCOSView, RetinaNet: RetinaNetView}


def _as_map(cells: Tensor, feature: Tensor) -> Tensor:
    """(B, H * W, C) -> (B, C, H, W)."""
    return cells.transpose(1, 2).unflatten(2, feature.shape[-2:])


def _matching(case: Case, prefix: str, found: Instances) -> Tensor:
    """For each detection of the authors ours of its class, place and score, none of them twice.

    Where there are not as many, ours come as they are, to differ in shape.
    """
    boxes = Boxes(torch.from_numpy(case.golden[f"{prefix}.boxes"]))
    scores = torch.from_numpy(case.golden[f"{prefix}.scores"])
    classes = torch.from_numpy(case.golden[f"{prefix}.classes"])
    own = torch.arange(len(found))
    if len(found) != len(boxes):
        return own
    same = classes[:, None] == found.pred_classes
    # Clipped boxes of a class can coincide; their scores tell them apart.
    difference = (scores[:, None] - found.scores).abs()
    likeness = pairwise_iou(boxes, found.pred_boxes) - difference + 10 * same
    best = likeness.argmax(dim=1)
    return best if len(best.unique()) == len(best) else own
