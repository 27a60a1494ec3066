"""Outputs of MaskFormer, Mask2Former and the per-pixel baselines, by the keys of the cases."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from d2ext.modeling.losses.point_sampling import most_uncertain, sample_points
from d2ext.modeling.set_prediction import Matches
from d2ext.parity.detectors import watch
from d2ext.parity.readers import register_parity_reader
from d2ext.projects.maskformer.modeling.criterion import PointMaskCriterion
from d2ext.projects.maskformer.modeling.mask_classifier import MaskClassifier
from d2ext.projects.maskformer.modeling.masked_decoder import blocked_pixels
from d2ext.projects.maskformer.modeling.predictions import MaskPredictions, MaskTargets
from d2ext.projects.maskformer.parity.case import ARCHITECTURES, MaskFormerCase
from d2ext.projects.maskformer.parity.settings import HEAD
from detectron2.modeling import build_model
from detectron2.structures import Instances

Outputs = Iterator[tuple[str, Tensor]]


def _recognises(facts: dict[str, Any]) -> bool:
    settings = facts.get("config", {}).get("settings", {})
    return isinstance(settings, dict) and settings.get(HEAD, {}).get("NAME") in ARCHITECTURES


def maskformer(case: MaskFormerCase) -> dict[str, Tensor]:
    """Compute everything that a case of the project may store, by its keys."""
    model: Any = build_model(case.cfg()).eval()
    parameters = case.load(model)
    with torch.no_grad():
        found = dict([*_evaluated(case, model), *_results(case, model)])
    # In float64 rounding alone does not move points or masks across borders.
    found |= dict(_trained(case, model.double().train()))
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            found[f"grad.{name}"] = parameter.grad
    return found


register_parity_reader(_recognises, maskformer, read=MaskFormerCase)


def _evaluated(case: MaskFormerCase, model: Any) -> Outputs:
    """Yield backbone, pixel decoder and predictor, layer by layer."""
    images = model.preprocess(case.batch())
    encoder, layers = _layers(model.pixel_decoder.encoder), _layers(model.predictor)
    modules = {f"pixel_decoder.encoder.layer{i}": layer for i, layer in enumerate(encoder)}
    modules |= {f"decoder.layer{i}": layer for i, layer in enumerate(layers)}
    seen = watch({**modules, "feat": model.backbone, "decoded": model.pixel_decoder})
    is_mask_classifier = isinstance(model, MaskClassifier)
    found = model.predict(images, all_layers=True) if is_mask_classifier else model.predict(images)
    for name, feature in seen.pop("feat").items():
        yield f"feat.{name.replace('stage', 'res')}", feature
    decoded = seen.pop("decoded")
    yield "pixel_decoder.mask_features", decoded.embeddings
    yield "pixel_decoder.encoder", decoded.memory[0]
    yield from seen.items()
    if not is_mask_classifier:
        yield from _per_pixel(found)
        return
    for layer, suffix in enumerate(found.loss_suffixes()):
        prefix = f"head.{suffix.replace('_', 'aux')}".rstrip(".")
        yield f"{prefix}.pred_logits", found.logits[layer]
        yield f"{prefix}.pred_masks", found.masks[layer]
    for layer in range(len(layers)):
        size = decoded.memory[layer % len(decoded.memory)].shape[-2:]
        yield f"attn_mask.{layer}", blocked_pixels(found.masks[layer], size)


def _per_pixel(layers: list[Tensor]) -> Outputs:
    *others, last = layers
    yield "head.sem_seg", last
    yield from ((f"head.aux{index}.sem_seg", logits) for index, logits in enumerate(others))


def _layers(module: Any) -> list[Any]:
    """Return the layers of an encoder, if there is one, or of Mask2Former's decoder."""
    return list(getattr(module, "layers", []))


def _results(case: MaskFormerCase, model: Any) -> Outputs:
    for image, output in enumerate(model(case.batch())):
        prefix = f"det.{image}"
        if "sem_seg" in output:
            scores = output["sem_seg"]
            yield f"{prefix}.sem_seg", scores
            counts = torch.bincount(scores.argmax(0).flatten(), minlength=len(scores))
            yield f"{prefix}.sem_seg_argmax_histogram", counts
        if "instances" in output:
            yield from _instances(prefix, output["instances"], case.num_classes)
        if "panoptic_seg" in output:
            segments, facts = output["panoptic_seg"]
            yield f"{prefix}.panoptic", segments
            rows = [[f["id"], f["category_id"], int(f["isthing"])] for f in facts]
            areas = [[int((segments == f["id"]).sum())] for f in facts]
            both = [row + area for row, area in zip(rows, areas, strict=True)]
            yield f"{prefix}.panoptic_segments", torch.tensor(both).reshape(-1, 4)


def _instances(prefix: str, found: Instances, num_classes: int) -> Outputs:
    """Yield instances in ascending order of query and class."""
    index = found.query * num_classes + found.pred_classes
    order = index.argsort()
    yield f"{prefix}.topk_index", index[order]
    yield f"{prefix}.scores", found.scores[order]
    yield f"{prefix}.classes", found.pred_classes[order]
    yield f"{prefix}.masks", found.pred_masks[order]
    yield f"{prefix}.mask_area", found.pred_masks[order].flatten(1).sum(1)


def _trained(case: MaskFormerCase, model: Any) -> Outputs:
    """Yield matching, points and losses; compute the gradients."""
    if not isinstance(model, MaskClassifier):
        losses = model(case.batch())
    else:
        images = model.preprocess(case.batch())
        targets = case.targets(images.tensor.shape[-2:])
        criterion = model.criterion
        if isinstance(criterion, PointMaskCriterion):
            matcher = replace(criterion.matcher, draw=case.draw)  # type: ignore[call-arg]
            criterion = replace(criterion, matcher=matcher, draw=case.draw)
        found = model.predict(images, all_layers=model.deep_supervision)
        matches = criterion.matcher(found, targets)
        yield from _matches(found, targets, matches)
        if isinstance(criterion, PointMaskCriterion):
            yield from _points(case, criterion, found, matches)
        losses = criterion.losses(found, targets, matches)
    yield from ((f"loss.{name}", loss) for name, loss in losses.items())
    torch.stack([*losses.values()]).sum().backward()


def _matches(found: MaskPredictions, targets: MaskTargets, matches: Matches) -> Outputs:
    starts = torch.tensor([0, *targets.counts]).cumsum(0)
    for layer, name in enumerate(found.layer_names()):
        for image in range(len(targets.counts)):
            own = matches.image == image
            yield f"match.{name}.{image}.query", matches.query[layer, own]
            yield f"match.{name}.{image}.target", matches.target[layer, own] - starts[image]


def _points(
    case: MaskFormerCase, criterion: PointMaskCriterion, found: MaskPredictions, matches: Matches
) -> Outputs:
    """Yield the draws of the last layer, and which candidates its losses keep."""
    cpu, count = torch.device("cpu"), len(matches.image)
    yield "points.match.final.0", case.draw("match.final.0", (1, criterion.num_points, 2), cpu)
    number = int(criterion.num_points * criterion.oversample_ratio)
    candidates = case.draw("loss.final.candidates", (count, number, 2), cpu)
    yield "points.loss.final.candidates", candidates
    masks = found.masks[-1][matches.image, matches.query[-1]].detach()
    logits = sample_points(masks[:, None], candidates)[:, 0]
    kept = most_uncertain(logits, criterion.num_uncertain)
    yield "points.loss.final.kept", torch.zeros(logits.shape).scatter(1, kept, 1.0)
