"""State dicts of Detectron2's R-CNNs as maskrcnn-benchmark and Detectron would have saved them.

The way back of the layouts, written from those projects' own names.
"""

import re

import torch
from torch import Tensor

State = dict[str, Tensor]
LETTERS = {"conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c", "shortcut": "branch1"}


def ratio_major(rows: Tensor, per_anchor: int) -> Tensor:
    """Reorder the channels of an RPN's predictor from size by size to ratio by ratio, of three."""
    sizes = rows.shape[0] // per_anchor // 3
    index = [(size * 3 + ratio) * per_anchor for ratio in range(3) for size in range(sizes)]
    return torch.cat([rows[start : start + per_anchor] for start in index])


def background_first(name: str, value: Tensor) -> Tensor:
    """Return a predictor's rows with the background before the classes, and ratio by ratio."""
    if "cls_score" in name:
        return torch.cat((value[-1:], value[:-1]))
    if "box_predictor.bbox_pred" in name:
        return torch.cat((torch.full_like(value[:4], 7.0), value))
    if "mask_head.predictor" in name:
        return torch.cat((torch.full_like(value[:1], 7.0), value))
    if "objectness_logits" in name:
        return ratio_major(value, 1)
    return ratio_major(value, 4) if "anchor_deltas" in name else value


def to_maskrcnn_benchmark(state: State, blocks: list[int]) -> State:
    """Rename and reorder a state dict; without the buffers that Detectron2 alone has.

    Args:
        blocks: number of blocks per stage of the ResNet; unused here, as for `to_detectron`.
    """
    pairs = [
        (r"^backbone\.(?:bottom_up\.)?stem\.conv1\.norm", "backbone.body.stem.bn1"),
        (r"^backbone\.(?:bottom_up\.)?stem", "backbone.body.stem"),
        (r"^backbone\.(?:bottom_up\.)?res(\d)", lambda m: f"backbone.body.layer{int(m[1]) - 1}"),
        (r"^roi_heads\.res5", "roi_heads.box.feature_extractor.head.layer4"),
        (r"(layer\d\.\d+)\.shortcut\.norm", r"\1.downsample.1"),
        (r"(layer\d\.\d+)\.shortcut", r"\1.downsample.0"),
        (r"(layer\d\.\d+)\.conv(\d)\.norm", r"\1.bn\2"),
        (r"(layer\d\.\d+)\.conv2_offset", r"\1.conv2.offset"),
        (r"^backbone\.fpn_lateral(\d)", lambda m: f"backbone.fpn.fpn_inner{int(m[1]) - 1}"),
        (r"^backbone\.fpn_output(\d)", lambda m: f"backbone.fpn.fpn_layer{int(m[1]) - 1}"),
        (r"^proposal_generator\.rpn_head\.objectness_logits", "rpn.head.cls_logits"),
        (r"^proposal_generator\.rpn_head\.anchor_deltas", "rpn.head.bbox_pred"),
        (r"^proposal_generator\.rpn_head\.conv", "rpn.head.conv"),
        (r"^roi_heads\.box_head\.fc(\d)", lambda m: f"roi_heads.box.feature_extractor.fc{m[1]}"),
        (r"feature_extractor\.fc1", "feature_extractor.fc6"),
        (r"feature_extractor\.fc2", "feature_extractor.fc7"),
        (r"^roi_heads\.box_predictor", "roi_heads.box.predictor"),
        (r"^roi_heads\.mask_head\.deconv", "roi_heads.mask.predictor.conv5_mask"),
        (r"^roi_heads\.mask_head\.predictor", "roi_heads.mask.predictor.mask_fcn_logits"),
        (r"^roi_heads\.mask_head\.mask_fcn", "roi_heads.mask.feature_extractor.mask_fcn"),
        (r"^roi_heads\.keypoint_head\.score", "roi_heads.keypoint.predictor.kps_score"),
        (r"^roi_heads\.keypoint_head", "roi_heads.keypoint.feature_extractor"),
    ]
    found = {}
    for ours, value in state.items():
        name = ours
        for pattern, replacement in pairs:
            name = re.sub(pattern, replacement, name)
        deformable = ours.replace(".conv2.", ".conv2_offset.") in state and "norm" not in ours
        if deformable and ".conv2.weight" in name:
            name = name.replace(".conv2.weight", ".conv2.conv.weight")
        if "num_batches" not in name and not name.startswith("pixel"):
            found[f"module.{name}"] = background_first(ours, value)
    return found


def to_detectron(state: State, blocks: list[int]) -> State:
    """Rename and reorder a state dict; norms have no statistics there.

    Args:
        blocks: number of blocks per stage of the ResNet, from res2 on.
    """

    def pyramid(found: re.Match[str]) -> str:
        kind, level = found[1], int(found[2])
        block = f"res{level}_{blocks[level - 2] - 1}_sum"
        if kind == "output":
            return f"fpn_{block}"
        return f"fpn_inner_{block}" + ("" if level == 5 else "_lateral")

    rpn = "_fpn2" if any("fpn_lateral" in name for name in state) else ""
    pairs = [
        (r"^backbone\.(?:bottom_up\.)?stem\.conv1\.norm", "res_conv1_bn"),
        (r"^backbone\.(?:bottom_up\.)?stem\.conv1", "conv1"),
        (
            r"^(?:backbone\.(?:bottom_up\.)?|roi_heads\.)(res\d)\.(\d+)\.(conv\d|shortcut)",
            lambda m: f"{m[1]}_{m[2]}_{LETTERS[m[3]]}",
        ),
        (r"^(res.*)\.norm", r"\1_bn"),
        (r"^backbone\.fpn_(lateral|output)(\d)", pyramid),
        (r"^proposal_generator\.rpn_head\.objectness_logits", f"rpn_cls_logits{rpn}"),
        (r"^proposal_generator\.rpn_head\.anchor_deltas", f"rpn_bbox_pred{rpn}"),
        (r"^proposal_generator\.rpn_head\.conv", f"conv_rpn{rpn}"),
        (r"^roi_heads\.box_head\.fc1", "fc6"),
        (r"^roi_heads\.box_head\.fc2", "fc7"),
        (r"^roi_heads\.box_predictor\.", ""),
        (r"^roi_heads\.mask_head\.deconv", "conv5_mask"),
        (r"^roi_heads\.mask_head\.predictor", "mask_fcn_logits"),
        (r"^roi_heads\.mask_head\.mask_fcn", "_[mask]_fcn"),
        (r"^roi_heads\.keypoint_head\.score", "kps_score"),
        (r"^roi_heads\.keypoint_head\.", ""),
        (r"_bn\.weight$", "_bn_s"),
        (r"\.weight$", "_w"),
        (r"\.bias$", "_b"),
    ]
    found = {}
    for ours, value in state.items():
        name = ours
        for pattern, replacement in pairs:
            name = re.sub(pattern, replacement, name)
        if "running" not in name and "num_batches" not in name and not name.startswith("pixel"):
            found[name] = background_first(ours, value)
    return found
