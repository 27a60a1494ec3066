"""Whether a config is about rotated boxes."""

from detectron2.config import CfgNode


def learns_rotated_boxes(cfg: CfgNode) -> bool:
    """Return True if the model learns and predicts rotated boxes, not upright ones."""
    rotated_anchors = cfg.MODEL.ANCHOR_GENERATOR.NAME == "RotatedAnchorGenerator"
    return rotated_anchors or cfg.MODEL.DENSE_HEAD.ROTATED
