"""YOLO-FastestV2: a detector of a quarter of a million parameters, for machines without a GPU."""

from d2ext.projects.yolo_fastest import (  # noqa: F401  (register)
    anchors,
    export,
    layout,
    modeling,
)
from detectron2.config import CfgNode


def add_config(cfg: CfgNode) -> None:
    """Add `MODEL.SHUFFLENET`, `MODEL.LIGHT_NECK`, `MODEL.YOLO_FASTEST`; ANCHORS may be `auto`."""
    shufflenet = cfg.MODEL.SHUFFLENET = CfgNode()
    shufflenet.STEM_CHANNELS = 24  # channels of the stem
    shufflenet.STAGE_CHANNELS = [48, 96, 192]  # of strides 8, 16, 32
    shufflenet.STAGE_REPEATS = [4, 8, 4]  # units of each stage
    shufflenet.NORM = "BN"  # normalisation layer: BN, SyncBN, GN, ...
    shufflenet.OUT_FEATURES = ["stage3", "stage4"]  # of stage2 to stage4

    neck = cfg.MODEL.LIGHT_NECK = CfgNode()
    neck.BOTTOM_UP = "ShuffleNetV2"  # registered name of the backbone below
    neck.IN_FEATURES = ["stage3", "stage4"]  # its levels, finest first
    neck.CHANNELS = 72  # of every feature that the head sees
    neck.KERNEL_SIZE = 5  # side of the depthwise kernels; odd
    neck.NORM = "BN"  # normalisation layer: BN, SyncBN, GN, ...

    yolo = cfg.MODEL.YOLO_FASTEST = CfgNode()
    yolo.NUM_CLASSES = 80  # set from the data unless a config names another
    yolo.ANCHORS = [  # width and height in pixels of the input, for each level; those for COCO
        [[12.64, 19.39], [37.88, 51.48], [55.71, 138.31]],
        [[126.91, 78.23], [131.57, 214.55], [279.92, 258.87]],
    ]
    yolo.MATCH_RATIO = 2.0  # sides of a box and of an anchor that learns it differ by less
    yolo.NEIGHBOR_REACH = (
        0.5  # cells from a box's centre to a neighbour that learns it; at most 0.5
    )
    yolo.BOX_WEIGHT = 3.2  # weight of the box loss
    yolo.OBJECTNESS_WEIGHT = 64.0  # weight of the objectness loss
    yolo.OBJECTNESS_BALANCE = [1.0, 0.4]  # further factor for each level
    yolo.CLASS_WEIGHT = 32.0  # weight of the class
    yolo.PRIOR_PROB = 0.5  # the objectness that training starts from
    yolo.TRAIN_SCALES = [1.0]  # factors of the input's size, one is drawn for each training batch
    yolo.SCORE_THRESH_TEST = 0.01  # of objectness times class probability
    yolo.NMS_THRESH_TEST = 0.4  # IoU
    yolo.CLIP_BOXES = True  # end detections at the image's border; the published ones go beyond
