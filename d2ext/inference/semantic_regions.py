"""Labelled pixels as one region a class, which everything that shows or writes objects can take."""

import torch
from torch import Tensor
from torchvision.ops import masks_to_boxes

from detectron2.structures import Boxes, Instances


def regions_of(logits: Tensor) -> Instances:
    """The classes that an image's pixels have.

    Args:
        logits: (classes, H, W), a semantic segmentor's "sem_seg".
    Returns:
        `pred_classes`, `pred_masks` (regions, H, W), `pred_boxes` around them in XYXY pixels and
        `scores`, the mean probability of a region's class on its pixels; on the CPU, best first.
    """
    best, labels = logits.float().softmax(dim=0).cpu().max(dim=0)
    classes = labels.unique()
    masks = labels == classes[:, None, None]
    height, width = labels.shape
    found = Instances((height, width))
    found.pred_classes, found.pred_masks = classes, masks
    found.scores = torch.stack([best[mask].mean() for mask in masks])
    # Torchvision's boxes end at the last pixel, these at its far edge.
    found.pred_boxes = Boxes(masks_to_boxes(masks) + torch.tensor([0.0, 0.0, 1.0, 1.0]))
    return found[found.scores.argsort(descending=True)]
