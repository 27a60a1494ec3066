"""Outputs of an exported file as `Instances` of the original image."""

import torch
import torch.nn.functional as F
from torch import Tensor

from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from detectron2.structures.keypoints import heatmaps_to_keypoints


def instances_of(outputs: dict[str, Tensor], size: tuple[int, int]) -> Instances:
    """Return the detections of one image in pixels of the file's input.

    Args:
        outputs: by name and without the batch: "boxes" (N, 4), "scores" and "classes" (N,); also
            "masks" (N, M, M) or pasted (N, H, W), "keypoint_heatmaps" (N, K, S, S).
        size: (height, width) of the image in the input, without padding.
    """
    real = outputs["scores"] > 0  # the others fill up a fixed number
    outputs = {name: values[real] for name, values in outputs.items()}
    found = Instances(size, pred_boxes=Boxes(outputs["boxes"]), scores=outputs["scores"])
    found.pred_classes = outputs["classes"]
    masks = outputs.get("masks")
    if masks is not None:
        pasted = masks.dtype == torch.bool
        found.pred_masks = masks[:, : size[0], : size[1]] if pasted else masks[:, None]
    if "keypoint_heatmaps" in outputs:
        keypoints = heatmaps_to_keypoints(outputs["keypoint_heatmaps"], outputs["boxes"])
        found.pred_keypoints = keypoints[:, :, [0, 1, 3]]
    return found


def to_image(found: Instances, height: int, width: int) -> Instances:
    """Rescale detections of `instances_of` to an image, clip them and paste their masks."""
    if not found.has("pred_masks") or found.pred_masks.dtype != torch.bool:
        return detector_postprocess(found, height, width)
    # Pasted by the file already: the masks follow as pictures.
    masks = found.pred_masks[:, None].float()
    found.remove("pred_masks")
    found.pasted_masks = F.interpolate(masks, (height, width))[:, 0] > 0.5
    found = detector_postprocess(found, height, width)
    found.pred_masks = found.pasted_masks
    found.remove("pasted_masks")
    return found
