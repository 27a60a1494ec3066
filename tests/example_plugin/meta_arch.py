"""DotDetector: a meta-architecture of its own; a plain dense head would not need one."""

from typing import Any

from torch import Tensor

from d2ext.modeling.dense_heads import build_dense_head
from d2ext.modeling.meta_arch import Detector
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import ImageList, Instances


@META_ARCH_REGISTRY.register()
class DotDetector(Detector):
    """A backbone and a `CenterHead`, trained on what the mapper "inverting" returns."""

    dataset_mapper = "inverting"  # what DATALOADER.MAPPER auto stands for

    @configurable
    def __init__(self, *, head: Any, **options: Any) -> None:
        super().__init__(**options)
        self.head = head

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        options = super().from_config(cfg)
        shapes = options["backbone"].output_shape()
        return {**options, "head": build_dense_head("CenterHead", cfg, shapes)}

    @classmethod
    def required_annotations(cls, cfg: CfgNode) -> dict[str, str]:
        """Return what training needs; data without it is refused before training starts."""
        return {"boxes": "MODEL.META_ARCHITECTURE DotDetector"}

    def losses(self, images: ImageList, targets: list[Instances]) -> dict[str, Tensor]:
        return self.head.losses(self.head(self.backbone(images.tensor)), targets)

    def detect(self, images: ImageList) -> list[Instances]:
        return self.head.decode(self.head(self.backbone(images.tensor)), images.image_sizes)
