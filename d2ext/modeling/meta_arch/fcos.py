"""The FCOS detector.

Source: Tian et al., 2019, arXiv:1904.01355, and 2020, arXiv:2006.09214.
"""

from d2ext.modeling.meta_arch.one_stage import OneStageDetector
from detectron2.modeling import META_ARCH_REGISTRY


@META_ARCH_REGISTRY.register()
class FCOS(OneStageDetector):
    """A feature pyramid and an `FCOSHead`."""

    head_name = "FCOSHead"
