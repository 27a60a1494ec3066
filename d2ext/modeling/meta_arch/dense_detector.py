"""Dense (one-stage) detectors: a head that predicts at every cell of a feature pyramid."""

from typing import Any, ClassVar

from torch import Tensor

from d2ext.modeling.dense_heads import build_dense_head
from d2ext.modeling.meta_arch.detector import Detector
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import ImageList, Instances


@META_ARCH_REGISTRY.register()
class DenseDetector(Detector):
    """A backbone with a feature pyramid and the dense head named by `MODEL.DENSE_HEAD.NAME`.

    Args:
        head: see `DENSE_HEAD_REGISTRY` for its methods.
        options: those of `Detector`.
    """

    # Name in DENSE_HEAD_REGISTRY of a subclass whose head the config does not choose.
    head_name: ClassVar[str] = ""

    @configurable
    def __init__(self, *, head: Any, **options: Any) -> None:
        super().__init__(**options)
        self.head = head

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        options = super().from_config(cfg)
        name = cls.head_name or cfg.MODEL.DENSE_HEAD.NAME
        head = build_dense_head(name, cfg, options["backbone"].output_shape())
        return {**options, "head": head}

    def losses(self, images: ImageList, targets: list[Instances]) -> dict[str, Tensor]:
        return self.head.losses(self.head(self.backbone(images.tensor)), targets)

    def detect(self, images: ImageList) -> list[Instances]:
        return self.head.decode(self.head(self.backbone(images.tensor)), images.image_sizes)


@META_ARCH_REGISTRY.register()
class ATSS(DenseDetector):
    """ATSS (Zhang et al., 2020, arXiv:1912.02424): a feature pyramid and an `ATSSHead`."""

    head_name = "ATSSHead"


@META_ARCH_REGISTRY.register()
class FCOS(DenseDetector):
    """FCOS (Tian et al., 2020, arXiv:2006.09214): a feature pyramid and an `FCOSHead`."""

    head_name = "FCOSHead"
