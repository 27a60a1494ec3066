"""Which annotations a meta-architecture learns from, so that unsuitable data is refused early."""

from collections.abc import Callable
from typing import Any

from d2ext.modeling.lookup import get_registered
from detectron2.config import CfgNode
from detectron2.modeling import (
    META_ARCH_REGISTRY,
    GeneralizedRCNN,
    PanopticFPN,
    ProposalNetwork,
    RetinaNet,
    SemanticSegmentor,
)

Rule = Callable[[CfgNode], dict[str, str]]

_RULES: dict[type, Rule] = {}


def register_required_annotations(model_class: type, rule: Rule) -> None:
    """Declare what a meta-architecture of another package learns from.

    Those of d2ext and of projects need no entry: they have the classmethod
    `Detector.required_annotations`. An entry also holds for subclasses.

    Args:
        model_class: a class of `META_ARCH_REGISTRY`.
        rule: maps a config to {kind of annotation: setting that asks for it}; see
            `Detector.required_annotations`.
    """
    _RULES[model_class] = rule


def required_annotations(cfg: CfgNode) -> dict[str, str]:
    """Return what `MODEL.META_ARCHITECTURE` learns from, each kind with the setting that asks.

    Returns:
        {kind of annotation: setting}; {} where the architecture declares nothing.
    Raises:
        ConfigError: no architecture of that name is registered.
    """
    name = cfg.MODEL.META_ARCHITECTURE
    model_class: Any = get_registered(META_ARCH_REGISTRY, "MODEL.META_ARCHITECTURE", name)
    # The class first: a project's subclass of Detectron2's model may declare needs of its own.
    if hasattr(model_class, "required_annotations"):
        return model_class.required_annotations(cfg)
    for base in getattr(model_class, "__mro__", ()):
        if base in _RULES:
            return _RULES[base](cfg)
    return {}


def instance_annotations(cfg: CfgNode) -> dict[str, str]:
    """Return the needs of an instance detector: boxes, and masks and keypoints if switched on."""
    needs = {"boxes": f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE}"}
    if cfg.MODEL.MASK_ON:
        needs["masks"] = "MODEL.MASK_ON True"
    if cfg.MODEL.KEYPOINT_ON:
        needs["keypoints"] = "MODEL.KEYPOINT_ON True"
    return needs


def _semantic(cfg: CfgNode) -> dict[str, str]:
    return {"semantic masks": f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE}"}


def _panoptic(cfg: CfgNode) -> dict[str, str]:
    return _semantic(cfg) | instance_annotations(cfg)


def _proposals(cfg: CfgNode) -> dict[str, str]:
    return {"boxes": f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE}"}


register_required_annotations(GeneralizedRCNN, instance_annotations)
register_required_annotations(RetinaNet, instance_annotations)
register_required_annotations(PanopticFPN, _panoptic)
register_required_annotations(SemanticSegmentor, _semantic)
register_required_annotations(ProposalNetwork, _proposals)
