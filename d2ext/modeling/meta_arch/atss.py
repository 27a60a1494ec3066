"""The ATSS detector.

Source: Zhang et al., 2020, arXiv:1912.02424.
"""

from d2ext.modeling.meta_arch.one_stage import OneStageDetector
from detectron2.modeling import META_ARCH_REGISTRY


@META_ARCH_REGISTRY.register()
class ATSS(OneStageDetector):
    """A feature pyramid and an `ATSSHead`."""

    head_name = "ATSSHead"
