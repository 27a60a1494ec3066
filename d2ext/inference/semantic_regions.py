"""Convert semantic segmentation to instances, one region per class."""

import torch
from torch import Tensor
from torchvision.ops import masks_to_boxes

from detectron2.structures import Boxes, Instances


def regions_of(logits: Tensor) -> Instances:
    """Group the pixels of an image by their most probable class.

    Args:
        logits: (classes, H, W), the "sem_seg" of a semantic segmentor.
    Returns:
        Instances on the CPU, highest score first: `pred_classes`, `pred_masks` (regions, H, W),
        `pred_boxes` around them in XYXY pixels, and `scores`, the mean probability of a region's
        class over its pixels.
    """
    best, labels = logits.float().softmax(dim=0).cpu().max(dim=0)
    classes = labels.unique()
    masks = labels == classes[:, None, None]
    height, width = labels.shape
    found = Instances((height, width))
    found.pred_classes, found.pred_masks = classes, masks
    found.scores = torch.stack([best[mask].mean() for mask in masks])
    # Torchvision's boxes end at the index of the last pixel, Detectron2's at its far edge.
    found.pred_boxes = Boxes(masks_to_boxes(masks) + torch.tensor([0.0, 0.0, 1.0, 1.0]))
    return found[found.scores.argsort(descending=True)]
