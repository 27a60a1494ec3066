"""The config sections of DETR3D."""

from detectron2.config import CfgNode


def add_detr3d_config(cfg: CfgNode) -> None:
    """Add `MODEL.DETR3D`, read by `d2ext.projects.detr3d.modeling`."""
    detr3d = cfg.MODEL.DETR3D = CfgNode()
    detr3d.NUM_CLASSES = 10  # set from the data unless a config names another
    detr3d.NUM_QUERIES = 900  # at least the most objects of a sample
    detr3d.NUM_CAMERAS = 6  # cameras per sample
    detr3d.IN_FEATURES = ["p3", "p4", "p5", "p6"]  # levels of the backbone, finest first
    detr3d.CHANNELS = 256  # width of queries and features
    detr3d.NUM_HEADS = 8  # of the self-attention
    detr3d.FEEDFORWARD = 512  # hidden width of the feed-forward parts
    detr3d.NUM_LAYERS = 6  # of the decoder
    detr3d.DROPOUT = 0.1  # probability of dropout
    detr3d.PRIOR_PROB = 0.01  # class probability that training starts from
    # Least x, y, z, greatest x, y, z in metres: of centres that can be predicted and are learned,
    detr3d.POINT_RANGE = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
    # and of detections that are kept.
    detr3d.CENTRE_RANGE = [-61.2, -61.2, -10.0, 61.2, 61.2, 10.0]
    # What the weights predict, as mmdetection3d before 1.0 (the published ones) or since: mmdet3d_0
    # or mmdet3d_1.
    detr3d.BOX_CONVENTION = "mmdet3d_0"
    detr3d.GRID_MASK_PROB = 0.7  # share of the training batches that are masked
    detr3d.DISTORT_COLOURS = True  # photometric distortion of training images

    matcher = detr3d.MATCHER = CfgNode()  # weights of the matching costs
    matcher.CLASS_WEIGHT = 2.0  # weight of the class
    matcher.L1_WEIGHT = 0.25  # weight of the L1 distance of boxes

    loss = detr3d.LOSS = CfgNode()
    loss.FOCAL_ALPHA = 0.25  # weight of positives in the focal loss
    loss.FOCAL_GAMMA = 2.0  # exponent of the focal loss
    loss.CLASS_WEIGHT = 2.0  # weight of the class
    loss.L1_WEIGHT = 0.25  # weight of the L1 distance of boxes
    # Of cx, cy, log w, log l, cz, log h, sin yaw, cos yaw, vx, vy in the L1.
    loss.CODE_WEIGHTS = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.2]


def add_vovnet_config(cfg: CfgNode) -> None:
    """Add `MODEL.VOVNET`, read by `d2ext.projects.detr3d.modeling.vovnet`."""
    vovnet = cfg.MODEL.VOVNET = CfgNode()
    vovnet.STAGE_BLOCKS = [1, 3, 9, 3]  # blocks of each stage; these of VoVNet-99
    vovnet.OUT_FEATURES = ["stage2", "stage3", "stage4", "stage5"]  # strides 4, 8, 16, 32
    vovnet.NORM = "BN"  # normalisation layer: BN, SyncBN, GN, ...
    vovnet.NORM_EVAL = True  # batch norm keeps its statistics; scales and biases are trained
