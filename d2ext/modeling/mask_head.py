"""Mask R-CNN's mask head for inference: it computes the mask of each region's class alone."""

from typing import Any

import torch
from torch import Tensor, nn

from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead, mask_rcnn_inference


class PredictedClassMaskHead(MaskRCNNConvUpsampleHead):
    """A `MaskRCNNConvUpsampleHead` that upsamples and predicts for one class per region.

    Its upsampling, a transposed convolution whose 2x2 kernel is its stride, is a 1x1 convolution to
    four times the channels. The large maps of it are never put in order: only the masks are.
    """

    def forward(  # type: ignore[override]  # of Sequential, which is a base, too
        self, x: Tensor, instances: list[Any]
    ) -> list[Any]:
        """Set `pred_masks`, probabilities (Ri, 1, 2H, 2W), from (R, C, H, W) pooled features.

        Args:
            x: features of the regions of all images.
            instances: per image, R in total, with `pred_classes`; changed in place and returned.
        """
        layers: list[Any] = list(self)
        *convolutions, upsample, _, predictor = layers
        for layer in convolutions:
            x = layer(x)
        # (C, C', 2, 2) -> a 1x1 kernel whose outputs are the 2x2 pixels, each of C' channels.
        kernel = upsample.weight.permute(2, 3, 1, 0).flatten(0, 2)[..., None, None]
        bias = None if upsample.bias is None else upsample.bias.repeat(4)
        x = torch.conv2d(x, kernel, bias).relu_()
        classes = torch.cat([found.pred_classes for found in instances])
        mask_rcnn_inference(_logits_of_classes(x, classes, predictor), instances)
        return instances


def _logits_of_classes(x: Tensor, classes: Tensor, predictor: Any) -> Tensor:
    """Return (R, 1, 2H, 2W) logits from (R, 4 * C', H, W) features."""
    count, _, height, width = x.shape
    rows = classes if predictor.out_channels > 1 else torch.zeros_like(classes)
    weight = predictor.weight.flatten(1)[rows]
    features = x.view(count, 4, -1, height * width)
    logits = (weight[:, None, None] @ features).view(count, 2, 2, height, width)
    if predictor.bias is not None:
        logits = logits + predictor.bias[rows].view(-1, 1, 1, 1, 1)
    return logits.permute(0, 3, 1, 4, 2).reshape(count, 1, 2 * height, 2 * width)


def predict_masks_of_classes(model: nn.Module) -> nn.Module:
    """Turn mask heads into `PredictedClassMaskHead`, in place; return the model."""
    for head in model.modules():
        if type(head) is MaskRCNNConvUpsampleHead and _has_plain_upsampling(head):
            head.__class__ = PredictedClassMaskHead
    return model


def _has_plain_upsampling(head: Any) -> bool:
    layer = head.deconv
    return (
        layer.kernel_size == layer.stride == (2, 2)
        and layer.padding == layer.output_padding == (0, 0)
        and layer.groups == 1
        and head.predictor.kernel_size == (1, 1)
    )
