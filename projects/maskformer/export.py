"""MaskFormer, Mask2Former and the per-pixel baselines as `tools/export.py` sees them."""

import torch
import torch.nn.functional as F
from torch import Tensor

from d2ext.exporters import MaskExporter, register_exporter
from d2ext.projects.maskformer.modeling.mask_classifier import MaskClassifier
from d2ext.projects.maskformer.modeling.per_pixel import PerPixelModel
from detectron2.structures import ImageList


class MaskClassifierExporter(MaskExporter):
    """Masks of all queries, or scores of pixels where the model is for semantic masks alone.

    Outputs: "sem_seg" (B, K, H, W), the sums of masks weighted by class probabilities; or "scores"
    (B, Q, K + 1), class probabilities of which the last is "no object", and "masks" (B, Q, h, w),
    logits at the stride of the finest feature map.
    """

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        found = self.model.predict(ImageList(images, []), all_layers=False)
        scores, masks = found.logits[-1].softmax(-1), found.masks[-1]
        if self.model.test["tasks"] != ["semantic"]:
            return {"scores": scores, "masks": masks}
        masks = F.interpolate(masks, images.shape[-2:], mode="bilinear").sigmoid()
        return {"sem_seg": torch.einsum("bqk,bqhw->bkhw", scores[..., :-1], masks)}


class PerPixelExporter(MaskExporter):
    """One output, "sem_seg" (B, K, H, W): the logits of all classes."""

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        logits = self.model.predict(ImageList(images, []))[-1]
        return {"sem_seg": F.interpolate(logits, images.shape[-2:], mode="bilinear")}


register_exporter(MaskClassifier, MaskClassifierExporter)
register_exporter(PerPixelModel, PerPixelExporter)
