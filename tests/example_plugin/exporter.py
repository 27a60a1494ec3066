"""How a `DotDetector` becomes an ONNX file."""

from typing import Any

from torch import Tensor

from d2ext.exporters import NMSExporter, register_exporter
from d2ext.modeling.dense_heads import LevelPredictions

from .meta_arch import DotDetector


class DotExporter(NMSExporter):
    """The detector in three steps: raw outputs, candidates, and NMS by the base class."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.postprocess = model.head.postprocess

    def head(self, images: Tensor) -> dict[str, list[Tensor]]:
        return vars(self.model.head(self.model.backbone(self.pad(images))))

    def decode(self, raw: dict[str, list[Tensor]]) -> LevelPredictions:
        return self.model.head.decode_dense(**raw)


register_exporter(DotDetector, DotExporter)
