"""Config keys of PointRend."""

from detectron2.config import CfgNode


def add_pointrend_config(cfg: CfgNode) -> None:
    """Add the keys of the point heads, the coarse mask head and the augmentation."""
    cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 1.0  # 1: crops are not tried again
    cfg.INPUT.COLOR_AUG_SSD = False

    mask = cfg.MODEL.ROI_MASK_HEAD
    mask.IN_FEATURES = ("p2",)
    mask.FC_DIM = 1024
    mask.NUM_FC = 2
    mask.OUTPUT_SIDE_RESOLUTION = 7  # of the coarse mask
    mask.POINT_HEAD_ON = False

    point = cfg.MODEL.POINT_HEAD = CfgNode()
    point.NAME = "StandardPointHead"
    point.NUM_CLASSES = 80
    point.IN_FEATURES = ("p2",)
    point.TRAIN_NUM_POINTS = 14 * 14  # of each object
    point.OVERSAMPLE_RATIO = 3  # points drawn for each one kept
    point.IMPORTANCE_SAMPLE_RATIO = 0.75  # part of the points kept for their uncertainty
    point.SUBDIVISION_STEPS = 5
    point.SUBDIVISION_NUM_POINTS = 28 * 28  # in each step
    point.FC_DIM = 256
    point.NUM_FC = 3
    point.CLS_AGNOSTIC_MASK = False
    point.COARSE_PRED_EACH_LAYER = True  # every layer reads the coarse prediction
    point.COARSE_SEM_SEG_HEAD_NAME = "SemSegFPNHead"

    implicit = cfg.MODEL.IMPLICIT_POINTREND = CfgNode()
    implicit.IMAGE_FEATURE_ENABLED = True
    implicit.POS_ENC_ENABLED = True
    implicit.PARAMS_L2_REGULARIZER = 1e-5
