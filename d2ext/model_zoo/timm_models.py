"""Weights that timm publishes, under its own names."""

from contextlib import suppress
from functools import cache

import timm
from timm.models import PretrainedCfg

from d2ext.model_zoo.entry import ModelEntry, PixelFormat

_HUB = "https://huggingface.co"


@cache
def timm_names() -> tuple[str, ...]:
    """Return timm's names of models with weights, such as "resnet50.a1_in1k"."""
    return tuple(timm.list_pretrained())


def timm_model(name: str) -> ModelEntry | None:
    """Return the entry of a name of timm, with its tag or without; None if timm has no weights."""
    facts = None
    with suppress(RuntimeError):  # timm's for an unknown tag
        facts = timm.get_pretrained_cfg(name)
    url = _address(facts) if facts is not None else ""
    if facts is None or not url:
        return None
    tag = f".{facts.tag}" if facts.tag else ""
    return ModelEntry(
        name=f"{facts.architecture}{tag}",
        family="timm",
        task="imagenet",
        licence=facts.license or "not stated",
        commercial="nc" not in (facts.license or "").lower().split("-"),
        url=url,
        backbone=str(facts.architecture),
        pixels=PixelFormat("RGB", _times_255(facts.mean), _times_255(facts.std)),
    )


def _address(facts: PretrainedCfg) -> str:
    if facts.hf_hub_id:
        file = facts.hf_hub_filename or "model.safetensors"
        return f"{_HUB}/{facts.hf_hub_id}/resolve/main/{file}"
    return str(facts.url or "")


def _times_255(values: tuple[float, ...]) -> tuple[float, float, float]:
    red, green, blue = (round(255 * value, 3) for value in values)
    return red, green, blue
