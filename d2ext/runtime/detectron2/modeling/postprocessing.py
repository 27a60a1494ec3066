"""Postprocessing: from the network's input size to the size of the original image."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from detectron2.layers import paste_masks_in_image, shapes_to_tensor
from detectron2.structures import Instances


def detector_postprocess(
    results: Instances, output_height: int, output_width: int, mask_threshold: float = 0.5
) -> Instances:
    """Rescale detections from `results.image_size` to the output size.

    Args:
        results: detections; `pred_boxes` or `proposal_boxes` are rescaled in place. (N, 1, M, M)
            `pred_masks` in boxes become (N, height, width) bool masks, `pred_keypoints` move.
        output_height, output_width: in pixels; 0-dimensional tensors stay in the graph of a trace
            and become the image size of the result.
        mask_threshold: minimum probability of a mask pixel.

    Returns:
        The detections whose clipped boxes are not empty.
    """
    scale_x = output_width / results.image_size[1]
    scale_y = output_height / results.image_size[0]
    size = _size(output_height, output_width)
    fields = dict(results.get_fields())
    results = Instances(size, **fields)
    boxes = fields["pred_boxes"] if "pred_boxes" in fields else fields.get("proposal_boxes")
    if boxes is None:
        raise ValueError(f"no pred_boxes or proposal_boxes to rescale, only {sorted(fields)}")
    boxes.scale(scale_x, scale_y)
    boxes.clip(size)
    # Boxes outside of the image are empty after clipping.
    results = results[boxes.nonempty()]
    if results.has("pred_masks"):
        results.pred_masks = _whole_masks(results, mask_threshold)
    if results.has("pred_keypoints"):
        x, y, score = results.pred_keypoints.unbind(2)
        results.pred_keypoints = torch.stack([x * scale_x, y * scale_y, score], dim=2)
    return results


def wanted_size(x: dict[str, Any], size: tuple[int, int]) -> tuple[int, int]:
    """Return the height and width requested for the results of an input.

    Args:
        x: input of a model, optionally with "height" and "width".
        size: (height, width) of its image, the default.
    """
    return x.get("height", size[0]), x.get("width", size[1])


def postprocess_to_input(results: Instances, x: dict[str, Any], size: tuple[int, int]) -> Instances:
    """Apply `detector_postprocess` with the size from `wanted_size`."""
    return detector_postprocess(results, *wanted_size(x, size))


def _size(height: int, width: int) -> tuple[int, int]:
    if isinstance(height, Tensor) or isinstance(width, Tensor):
        return shapes_to_tensor((height, width))
    return int(height), int(width)


def _whole_masks(results: Instances, threshold: float) -> Tensor:
    masks = results.pred_masks
    probabilities = masks[:, 0] if isinstance(masks, Tensor) else masks.tensor
    return paste_masks_in_image(probabilities, results.pred_boxes, results.image_size, threshold)


def sem_seg_postprocess(
    result: Tensor, img_size: tuple[int, int], output_height: int, output_width: int
) -> Tensor:
    """Crop the padding and resize: (C, H, W) scores to (C, output_height, output_width).

    Args:
        img_size: (height, width) of the image within the padded map.
    """
    return F.interpolate(
        result[None, :, : img_size[0], : img_size[1]],
        size=(output_height, output_width),
        mode="bilinear",
        align_corners=False,
    )[0]
