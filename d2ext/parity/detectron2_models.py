"""Parity of Detectron2's own models."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from d2ext.parity.detectron2_case import Detectron2Case
from d2ext.parity.detectron2_outputs import evaluated
from d2ext.parity.readers import register_parity_reader
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

ARCHITECTURES = {
    "GeneralizedRCNN",
    "PanopticFPN",
    "ProposalNetwork",
    "RetinaNet",
    "SemanticSegmentor",
}
Outputs = Iterator[tuple[str, Tensor]]


def _recognises(facts: dict[str, Any]) -> bool:
    settings = facts.get("config", {}).get("settings", {})
    return isinstance(settings, dict) and settings.get("MODEL.META_ARCHITECTURE") in ARCHITECTURES


def detectron2_model(case: Detectron2Case) -> dict[str, Tensor]:
    """Compute everything that a case of Detectron2's models may store, by its keys."""
    model = build_model(case.cfg())
    parameters = case.load(model)
    return dict([*evaluated(case, model), *_trained(case, model, parameters)])


register_parity_reader(_recognises, detectron2_model, read=Detectron2Case)


def _trained(case: Detectron2Case, model: Any, parameters: dict[str, Tensor]) -> Outputs:
    """Yield losses, counts of samples, and gradients."""
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
