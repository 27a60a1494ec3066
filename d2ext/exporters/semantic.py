"""The exporter of semantic segmentation by a head on a pyramid of features."""

from torch import Tensor

from d2ext.exporters.exporter import MaskExporter, register_exporter
from detectron2.modeling import SemanticSegmentor


class SemanticExporter(MaskExporter):
    """One output, "sem_seg" (B, K, H, W): the logits of all classes, for images of any size."""

    pads = True

    @property
    def stride(self) -> int:
        return max(1, self.model.backbone.size_divisibility)

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        height, width = images.shape[-2:]
        # The head scales its logits up to the padded input.
        logits = self.model.sem_seg_head(self.model.backbone(self.pad(images)))[0]
        return {"sem_seg": logits[..., :height, :width]}


register_exporter(SemanticSegmentor, SemanticExporter)
