"""Parity of Detectron2's own models: their outputs by the keys of the cases."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from d2ext.parity.box_matching import match_to_reference
from d2ext.parity.detectors import watch
from d2ext.parity.detectron2_case import Detectron2Case
from d2ext.parity.readers import register_parity_reader
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, RotatedBoxes
from detectron2.utils.events import EventStorage

ARCHITECTURES = ("GeneralizedRCNN", "PanopticFPN", "RetinaNet")
Outputs = Iterator[tuple[str, Tensor]]


def _recognises(facts: dict[str, Any]) -> bool:
    settings = facts.get("config", {}).get("settings", {})
    return isinstance(settings, dict) and settings.get("MODEL.META_ARCHITECTURE") in ARCHITECTURES


def detectron2_model(case: Detectron2Case) -> dict[str, Tensor]:
    """Compute everything that a case of Detectron2's models may store, by its keys."""
    model = build_model(case.cfg())
    parameters = case.load(model)
    return dict([*_evaluated(case, model), *_trained(case, model, parameters)])


register_parity_reader(_recognises, detectron2_model, read=Detectron2Case)


def _evaluated(case: Detectron2Case, model: Any) -> Outputs:
    seen = watch(_parts(model))
    with torch.no_grad():
        model.eval()(case.batch())
        for name in {"feat", "fpn"} & seen.keys():
            yield from ((f"{name}.{level}", value) for level, value in seen[name].items())
        levels = seen.get("fpn", seen["feat"])
        for name in {"rpn", "head"} & seen.keys():
            for level, logits, deltas in zip(levels, *seen[name], strict=True):
                yield f"{name}.logits.{level}", logits
                yield f"{name}.deltas.{level}", deltas
        if "proposals" in seen:
            for index, found in enumerate(seen["proposals"][0]):
                yield from _proposals(case, f"proposals.{index}", found)
            yield from _region_outputs(case, model, levels)
    orders = []
    for index, found in enumerate(output["instances"] for output in seen["model"]):
        orders.append(_match(case, f"det.{index}", found.pred_boxes, scores=found.scores))
        yield from _detections(f"det.{index}", found[orders[-1]])
    for index, output in enumerate(seen["model"]):
        if "sem_seg" in output:
            yield f"sem_seg.{index}", output["sem_seg"]
            yield f"panoptic.{index}", output["panoptic_seg"][0]
    if "mask" in seen:
        logits = seen["mask"].split([len(order) for order in orders])
        pairs = zip(logits, orders, strict=True)
        yield "mask.logits", torch.cat([of_image[order] for of_image, order in pairs])


def _parts(model: Any) -> dict[str, nn.Module]:
    parts = {"feat": model.backbone, "model": model}
    if hasattr(model.backbone, "bottom_up"):
        parts.update(feat=model.backbone.bottom_up, fpn=model.backbone)
    if hasattr(model, "head"):
        return {**parts, "head": model.head}
    parts.update(rpn=model.proposal_generator.rpn_head, proposals=model.proposal_generator)
    if getattr(model.roi_heads, "mask_on", False):
        parts["mask"] = model.roi_heads.mask_head.predictor
    return parts


def _proposals(case: Detectron2Case, prefix: str, found: Instances) -> Outputs:
    order = _match(case, prefix, found.proposal_boxes, logits=found.objectness_logits)
    yield f"{prefix}.boxes", found.proposal_boxes.tensor[order]
    yield f"{prefix}.logits", found.objectness_logits[order]


def _region_outputs(case: Detectron2Case, model: Any, features: dict[str, Tensor]) -> Outputs:
    """Run the box predictor on the reference's proposals: ties would change their order."""
    images = model.preprocess_image(case.batch())
    proposals = []
    for index, size in enumerate(images.image_sizes):
        boxes = case.golden_boxes(f"proposals.{index}")
        logits = torch.from_numpy(case.golden[f"proposals.{index}.logits"])
        proposals.append(Instances(size, proposal_boxes=boxes, objectness_logits=logits))
    predictor = model.roi_heads.box_predictor
    stages = list(predictor) if isinstance(predictor, nn.ModuleList) else [predictor]
    seen = watch({f".{i}" if len(stages) > 1 else "": stage for i, stage in enumerate(stages)})
    model.roi_heads(images, features, proposals)
    for stage, (logits, deltas) in seen.items():
        yield f"roi{stage}.cls", logits
        yield f"roi{stage}.deltas", deltas


def _detections(prefix: str, found: Instances) -> Outputs:
    yield f"{prefix}.boxes", found.pred_boxes.tensor
    yield f"{prefix}.scores", found.scores
    yield f"{prefix}.classes", found.pred_classes
    if found.has("pred_masks"):
        yield f"{prefix}.masks", found.pred_masks
        yield f"{prefix}.mask_area", found.pred_masks.flatten(1).sum(dim=1)
    if found.has("pred_keypoints"):
        yield f"{prefix}.keypoints", found.pred_keypoints
        yield f"{prefix}.heatmaps", found.pred_keypoint_heatmaps


def _trained(case: Detectron2Case, model: Any, parameters: dict[str, Tensor]) -> Outputs:
    model.train()
    if any(key.startswith("loss_bitmask.") for key in case.facts["outputs"]):
        with EventStorage(), torch.no_grad():
            losses = model(case.batch("bitmask"))
        yield from ((f"loss_bitmask.{name}", loss) for name, loss in losses.items())
    with EventStorage() as storage:
        losses = model(case.batch())
        for name, (value, _) in storage.latest().items():
            yield f"count.{name.replace('/', '.')}", torch.tensor(value)
    yield from ((f"loss.{name}", loss) for name, loss in losses.items())
    sum(losses.values()).backward()
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            yield f"grad.{name}", parameter.grad


def _match(
    case: Detectron2Case, prefix: str, boxes: Boxes | RotatedBoxes, **values: Tensor
) -> Tensor:
    """Return the index of our box that matches each reference box, by place and `values`."""
    expected = (torch.from_numpy(case.golden[f"{prefix}.{name}"]) for name in values)
    pairs = zip(expected, values.values(), strict=True)
    return match_to_reference(case.golden_boxes(prefix), boxes, pairs)
