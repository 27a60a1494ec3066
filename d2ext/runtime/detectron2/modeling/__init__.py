"""Models and their parts."""

from .anchor_generator import ANCHOR_GENERATOR_REGISTRY, build_anchor_generator
from .backbone import (
    BACKBONE_REGISTRY,
    FPN,
    Backbone,
    ResNet,
    ResNetBlockBase,
    build_backbone,
    build_resnet_backbone,
    make_stage,
)
from .meta_arch import META_ARCH_REGISTRY, RetinaNet, build_model
from .postprocessing import detector_postprocess

__all__ = [
    "ANCHOR_GENERATOR_REGISTRY",
    "BACKBONE_REGISTRY",
    "FPN",
    "META_ARCH_REGISTRY",
    "Backbone",
    "ResNet",
    "ResNetBlockBase",
    "RetinaNet",
    "build_anchor_generator",
    "build_backbone",
    "build_model",
    "build_resnet_backbone",
    "detector_postprocess",
    "make_stage",
]
