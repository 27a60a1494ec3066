"""What Detectron2's models compute at inference, by the keys of the cases."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from d2ext.parity.box_matching import match_to_reference
from d2ext.parity.detectors import watch
from d2ext.parity.detectron2_case import Detectron2Case
from detectron2.structures import Boxes, Instances, RotatedBoxes

Outputs = Iterator[tuple[str, Tensor]]


def evaluated(case: Detectron2Case, model: Any) -> Outputs:
    """Yield features, raw outputs, proposals and detections, the last in the reference's order."""
    seen = watch(_parts(model))
    with torch.no_grad():
        model.eval()(case.batch())
        yield from _features(seen)
        if "semantic" in seen:
            yield "sem_seg_head.logits", seen["semantic"][0]
        if "proposals" in seen:
            for index, found in enumerate(seen["proposals"][0]):
                yield from _proposals(case, f"proposals.{index}", found)
        if "regions" in seen:
            yield from _region_outputs(case, model, seen.get("fpn", seen["feat"]))
    orders = []
    for index, output in enumerate(seen["model"]):
        prefix = f"det.{index}"
        if "proposals" in output:
            yield from _proposals(case, prefix, output["proposals"])
        if "instances" in output:
            orders.append(_detection_order(case, prefix, output["instances"]))
            yield from _detections(prefix, output["instances"][orders[-1]])
        if "sem_seg" in output:
            yield from _semantic(prefix, output["sem_seg"])
        if "panoptic_seg" in output:
            yield from _panoptic(prefix, *output["panoptic_seg"])
    for key in {"mask.logits", "keypoint.lowres"} & seen.keys():
        yield key, _reordered(seen[key], seen["regions"][0], orders)


def _parts(model: Any) -> dict[str, nn.Module]:
    """Return the modules whose outputs a case may store."""
    parts = {"feat": model.backbone, "model": model}
    if hasattr(model.backbone, "bottom_up"):
        parts.update(feat=model.backbone.bottom_up, fpn=model.backbone)
    if hasattr(model, "head"):
        parts["head"] = model.head
    if hasattr(model, "sem_seg_head"):
        parts["semantic"] = model.sem_seg_head
    if hasattr(model, "proposal_generator"):
        parts.update(rpn=model.proposal_generator.rpn_head, proposals=model.proposal_generator)
    if hasattr(model, "roi_heads"):
        parts.update(_region_parts(model.roi_heads))
    return parts


def _region_parts(heads: Any) -> dict[str, nn.Module]:
    parts = {"regions": heads}
    if getattr(heads, "mask_on", False):
        parts["mask.logits"] = heads.mask_head.predictor
    if getattr(heads, "keypoint_on", False):
        parts["keypoint.lowres"] = heads.keypoint_head.score_lowres
    return parts


def _features(seen: dict[str, Any]) -> Outputs:
    for name in {"feat", "fpn"} & seen.keys():
        yield from ((f"{name}.{level}", value) for level, value in seen[name].items())
    for name in {"rpn", "head"} & seen.keys():
        for level, logits, deltas in zip(seen.get("fpn", seen["feat"]), *seen[name], strict=True):
            yield f"{name}.logits.{level}", logits
            yield f"{name}.deltas.{level}", deltas


def _proposals(case: Detectron2Case, prefix: str, found: Instances) -> Outputs:
    order = _order(case, prefix, found.proposal_boxes, logits=found.objectness_logits)
    yield f"{prefix}.boxes", found.proposal_boxes.tensor[order]
    yield f"{prefix}.logits", found.objectness_logits[order]


def _region_outputs(case: Detectron2Case, model: Any, features: dict[str, Tensor]) -> Outputs:
    """Run the box predictors on the reference's proposals: ties would change their order."""
    images = model.preprocess_image(case.batch())
    proposals = []
    for index, size in enumerate(images.image_sizes):
        boxes = case.golden_boxes(f"proposals.{index}")
        logits = torch.from_numpy(case.golden[f"proposals.{index}.logits"])
        proposals.append(Instances(size, proposal_boxes=boxes, objectness_logits=logits))
    predictor = model.roi_heads.box_predictor
    stages = {"roi": predictor}
    if isinstance(predictor, nn.ModuleList):
        stages = {f"roi.stage{index}": stage for index, stage in enumerate(predictor)}
    seen = watch(stages)
    model.roi_heads(images, features, proposals)
    for stage, (logits, deltas) in seen.items():
        yield f"{stage}.cls", logits
        yield f"{stage}.deltas", deltas


def _detections(prefix: str, found: Instances) -> Outputs:
    yield f"{prefix}.boxes", found.pred_boxes.tensor
    yield f"{prefix}.scores", found.scores
    yield f"{prefix}.classes", found.pred_classes
    if found.has("pred_masks"):
        yield f"{prefix}.masks", found.pred_masks
        yield f"{prefix}.mask_area", found.pred_masks.flatten(1).sum(dim=1)
    if found.has("pred_keypoints"):
        yield f"{prefix}.keypoints", found.pred_keypoints


def _semantic(prefix: str, scores: Tensor) -> Outputs:
    yield f"{prefix}.sem_seg", scores
    pixels = scores.argmax(dim=0).flatten().bincount(minlength=len(scores))
    yield f"{prefix}.sem_seg_argmax_histogram", pixels


def _panoptic(prefix: str, segments: Tensor, facts: list[dict[str, Any]]) -> Outputs:
    yield f"{prefix}.panoptic", segments
    rows = [
        [fact["id"], fact["category_id"], fact["isthing"], int((segments == fact["id"]).sum())]
        for fact in facts
    ]
    yield f"{prefix}.panoptic_segments", torch.tensor(rows, dtype=torch.int64).view(-1, 4)
    scores = [fact["score"] if fact["isthing"] else -1.0 for fact in facts]
    yield f"{prefix}.panoptic_scores", torch.tensor(scores)


def _reordered(values: Tensor, found: list[Instances], orders: Iterable[Tensor]) -> Tensor:
    """Reorder what a head computed of all detections of the batch.

    Postprocessing drops detections that are empty at the output size: then the order stays.
    """
    parts = values.split([len(of_image) for of_image in found])
    pairs = zip(parts, orders, strict=True)
    return torch.cat([part[order] if len(part) == len(order) else part for part, order in pairs])


def _detection_order(case: Detectron2Case, prefix: str, found: Instances) -> Tensor:
    values = {"scores": found.scores, "classes": found.pred_classes}
    return _order(case, prefix, found.pred_boxes, **values)


def _order(
    case: Detectron2Case, prefix: str, boxes: Boxes | RotatedBoxes, **values: Tensor
) -> Tensor:
    """Return the index of our box that matches each reference box, by place and `values`."""
    expected = (torch.from_numpy(case.golden[f"{prefix}.{name}"]) for name in values)
    pairs = zip(expected, values.values(), strict=True)
    return match_to_reference(case.golden_boxes(prefix), boxes, pairs)
