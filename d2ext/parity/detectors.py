"""Parity of whole detectors: features, raw outputs, detections, assignment, losses, gradients."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from d2ext.errors import DataError
from d2ext.parity import core_settings  # noqa: F401  (register)
from d2ext.parity.case import Case
from d2ext.parity.detector_outputs import outputs_for
from d2ext.parity.readers import register_parity_reader
from d2ext.parity.settings import check_fixed, check_known, detector_config
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

Outputs = Iterator[tuple[str, Tensor]]
ALTERNATIVE = {"what", "score_threshold", "pre_nms_topk", "nms_threshold", "max_detections"}


def detector(case: Case) -> dict[str, Tensor]:
    """Compute everything that a case of a detector may store, by its keys.

    Raises:
        DataError: a setting of the case is unknown or missing, or has a value without a
            counterpart here.
    """
    alternative = case.facts.get("alternative_postprocessing", {})
    check_known("alternative_postprocessing", alternative, ALTERNATIVE)
    try:
        cfg = detector_config(case.config, case.shapes)
    except KeyError as error:
        raise DataError(f"case.json: config: there is no {error}") from error
    model: Any = build_model(cfg)
    given = case.config.get("size_divisibility", model.backbone.size_divisibility)
    check_fixed("config.size_divisibility", given, model.backbone.size_divisibility)
    parameters = case.load(model)
    return dict([*_evaluated(case, model), *_trained(case, model, parameters)])


register_parity_reader(lambda facts: "fpn" in facts.get("config", {}), detector)


def _evaluated(case: Case, model: Any) -> Outputs:
    parts = _parts(model)
    outputs = outputs_for(case, model)
    seen = watch({**parts, "model": model, **outputs.recorded_modules()})
    with torch.no_grad():
        model.eval()(case.batch())
        yield "input", _preprocessed(model, case.batch())
        for name in parts:
            yield from _levels(name, seen[name], list(seen["fpn"]))
        yield from outputs.intermediate(seen)
        for index, found in enumerate(seen["model"]):
            yield from outputs.detections("det", index, found["instances"], seen)
        if "alternative_postprocessing" in case.facts:
            outputs.use_alternative(case.facts["alternative_postprocessing"])
            for index, found in enumerate(model(case.batch())):
                yield from outputs.detections("alt", index, found["instances"], seen)


def _trained(case: Case, model: Any, parameters: dict[str, Tensor]) -> Outputs:
    """Yield losses and gradients."""
    # In float64: sampling points within float32's rounding of a pixel's border have gradients that
    # differ from machine to machine.
    outputs = outputs_for(case, model)
    outputs.to_float64()
    model.train()
    with EventStorage() as storage:
        losses = model(case.batch())
    for name, (count, _) in storage.latest().items():
        yield f"count.{name.replace('/', '.')}", torch.tensor(count)
    for name, loss in losses.items():
        yield f"loss.{outputs.loss_names.get(name, name)}", loss
    sum(losses.values()).backward()
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            yield f"grad.{name}", parameter.grad


def _parts(model: Any) -> dict[str, nn.Module]:
    """Return the stages of the backbone by the names of their outputs."""
    if not hasattr(model.backbone, "blocks"):
        return {"backbone": model.backbone.bottom_up, "fpn": model.backbone}
    pyramid = model.backbone.backbone
    blocks = {f"dyhead{index}": block for index, block in enumerate(model.backbone.blocks)}
    return {"backbone": pyramid.bottom_up, "fpn": pyramid, **blocks, "dyhead": model.backbone}


def watch(modules: dict[str, nn.Module]) -> dict[str, Any]:
    """Register forward hooks that record each module's first output in the returned dict."""
    seen: dict[str, Any] = {}
    for name, module in modules.items():
        module.register_forward_hook(partial(_keep_first, seen, name))
    return seen


def _keep_first(seen: dict[str, Any], name: str, module: nn.Module, args: Any, output: Any) -> None:
    if name not in seen:
        seen[name] = deepcopy(output)  # some models change it in place later


def _levels(name: str, output: Any, names: Sequence[str]) -> Outputs:
    levels = output if isinstance(output, dict) else dict(zip(names, output, strict=True))
    return ((f"{name}.{level}", value) for level, value in levels.items())


def _preprocessed(model: Any, batch: list[dict]) -> Tensor:
    preprocess = getattr(model, "preprocess", None) or model.preprocess_image
    return preprocess(batch).tensor
