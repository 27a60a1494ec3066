"""Small R-CNNs with deterministic weights, images and ground truth."""

from typing import Any

import torch
from torch import nn

from d2ext.config.rotated import learns_rotated_boxes
from d2ext.parity import recipe
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from detectron2.structures import (
    BitMasks,
    Boxes,
    Instances,
    Keypoints,
    PolygonMasks,
    RotatedBoxes,
)

SIZES = [(96, 128), (128, 96)]
NUM_CLASSES = 3


def tiny_config(**changes: Any) -> CfgNode:
    """Return the config of a Faster R-CNN FPN on a ResNet-50 of an eighth of its width.

    All proposals are sampled, so that nothing is random. Changes are keys with "__" for dots.
    """
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 32
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 8
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32], [64], [96], [128]]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.RPN.BATCH_SIZE_PER_IMAGE = 8192
    cfg.MODEL.RPN.PRE_NMS_TOPK_TRAIN = cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = 50
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 20
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = NUM_CLASSES
    cfg.MODEL.ROI_HEADS.POSITIVE_FRACTION = 0.5
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC, cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 1, 16
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV, cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 1, 32
    cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS = [8]
    cfg.TEST.DETECTIONS_PER_IMAGE = 10
    for key, value in changes.items():
        cfg.merge_from_list([key.replace("__", "."), value])
    return cfg


def fill(model: nn.Module) -> nn.Module:
    """Set every parameter and buffer to a value derived from its name."""
    entries = [
        (k, v.shape, str(v.dtype).removeprefix("torch.")) for k, v in model.state_dict().items()
    ]
    state = recipe.fill_state_dict(entries)
    for name in state:
        if name.endswith("stem.conv1.weight"):
            state[name] *= 0.02  # images are in 0..255
    model.load_state_dict(state, strict=False)
    return model


def tiny_model(**changes: Any) -> nn.Module:
    return fill(build_model(tiny_config(**changes)))


def batch(count: int = 3) -> list[dict]:
    """Return two images with `count` objects each, with masks and keypoints."""
    return [_item(seed, size, count) for seed, size in enumerate(SIZES)]


def batch_for(cfg: CfgNode) -> list[dict]:
    """Return two images with whatever the model of a recipe of d2ext learns from."""
    found = batch()
    for item in found:
        truth = item["instances"]
        item["sem_seg"] = torch.zeros(truth.image_size, dtype=torch.int64)
        if cfg.MODEL.KEYPOINT_ON:
            truth.gt_classes.zero_()
            count = cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS
            truth.gt_keypoints.tensor = truth.gt_keypoints.tensor[:, :count]
        if cfg.INPUT.MASK_FORMAT == "bitmask":
            truth.gt_masks = BitMasks.from_polygon_masks(truth.gt_masks, *truth.image_size)
        if learns_rotated_boxes(cfg):
            x0, y0, x1, y1 = truth.gt_boxes.tensor.unbind(1)
            middle = ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, torch.full_like(x0, 20.0))
            truth.gt_boxes = RotatedBoxes(torch.stack(middle, dim=1))
    return found


def _item(seed: int, size: tuple[int, int], count: int) -> dict:
    boxes, classes = recipe.boxes(seed, *size, count, NUM_CLASSES)
    truth = Instances(size)
    truth.gt_boxes = Boxes(torch.from_numpy(boxes))
    truth.gt_classes = torch.from_numpy(classes)
    corners = boxes.astype("float64")[:, [0, 1, 2, 1, 2, 3]]
    truth.gt_masks = PolygonMasks([[triangle] for triangle in corners])
    fractions = torch.linspace(0.05, 1.1, 17)[None, :, None]  # the last one is outside
    low, high = truth.gt_boxes.tensor[:, None].split(2, dim=2)
    points = low + fractions * (high - low)
    visible = torch.arange(17).remainder(3).expand(count, -1)[..., None]
    truth.gt_keypoints = Keypoints(torch.cat([points, visible], dim=2))
    image = torch.from_numpy(recipe.image(seed, *size).transpose(2, 0, 1).copy()).float()
    return {"image": image, "instances": truth}
