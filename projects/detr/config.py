"""The config sections of DETR, Conditional DETR and DAB-DETR."""

from detectron2.config import CfgNode


def add_detr_config(cfg: CfgNode) -> None:
    """Add `MODEL.DETR`, read by all models of the family, and `MODEL.DAB_DETR`."""
    detr = cfg.MODEL.DETR = CfgNode()
    detr.NUM_CLASSES = 80  # set from the data unless a config names another
    detr.NUM_QUERIES = 100  # at least the most objects of an image
    detr.IN_FEATURES = ["res5"]  # feature maps of the backbone, finest first
    detr.CHANNELS = 256  # width of the transformer
    detr.NUM_HEADS = 8  # of attention
    detr.FEEDFORWARD = 2048  # hidden width of the feed-forward parts
    detr.ACTIVATION = "relu"  # of the feed-forward parts: relu, gelu or prelu
    detr.ENCODER_LAYERS = 6  # layers of the encoder
    detr.DECODER_LAYERS = 6  # layers of the decoder
    detr.DROPOUT = 0.1  # probability of dropout
    detr.PRE_NORM = False  # layer norms before attention; DETR only
    detr.PRIOR_PROB = 0.01  # class probability that focal training starts from
    detr.DEEP_SUPERVISION = True  # losses of every decoder layer
    detr.USE_CHECKPOINT = False  # gradient checkpointing of encoder and decoder layers

    position = detr.POSITION = CfgNode()  # sine encoding of the pixels of feature maps
    position.TEMPERATURE = [10000.0, 10000.0]  # of y and x
    position.HALF_PIXEL = False  # positions are centres of pixels

    matcher = detr.MATCHER = CfgNode()  # weights of the matching costs
    matcher.CLASS_WEIGHT = 1.0  # weight of the class
    matcher.L1_WEIGHT = 5.0  # weight of the L1 distance of boxes
    matcher.GIOU_WEIGHT = 2.0  # weight of the generalised IoU

    loss = detr.LOSS = CfgNode()
    loss.CLASSIFICATION = "softmax"  # cross-entropy with "no object", or "focal" (sigmoid)
    loss.NO_OBJECT_WEIGHT = 0.1  # of "no object" in the cross-entropy
    loss.FOCAL_ALPHA = 0.25  # weight of positives in the focal loss
    loss.FOCAL_GAMMA = 2.0  # exponent of the focal loss
    loss.CLASS_WEIGHT = 1.0  # weight of the class
    loss.L1_WEIGHT = 5.0  # weight of the L1 distance of boxes
    loss.GIOU_WEIGHT = 2.0  # weight of the generalised IoU
    loss.MASK_WEIGHT = 1.0  # of the focal mask loss
    loss.DICE_WEIGHT = 1.0  # of the dice mask loss
    loss.GIOU_EPS = 0.0  # added to the areas of the GIoU in matcher and loss

    masks = detr.MASK_HEAD = CfgNode()  # of DETR, Conditional and DAB-DETR with MODEL.MASK_ON
    masks.IN_FEATURES = ["res4", "res3", "res2"]  # finer maps of the backbone, coarsest first
    masks.FREEZE_DETECTOR = False  # only the mask head learns; boxes come from MODEL.WEIGHTS
    masks.THRESH_TEST = 0.5  # probability of a pixel that belongs to the mask

    panoptic = detr.PANOPTIC = CfgNode()  # of DETR, Conditional and DAB-DETR
    # Boxes, and masks with MODEL.MASK_ON, of things and stuff are learned from panoptic data, with
    # MODEL.SEM_SEG_HEAD.NUM_CLASSES classes.
    panoptic.ENABLED = False
    panoptic.THING_IDS = list(range(80))  # the classes that are things
    panoptic.OBJECT_THRESH = 0.85  # least class score of a segment

    dab = cfg.MODEL.DAB_DETR = CfgNode()
    dab.NUM_PATTERNS = 0  # learned contents that each anchor is combined with; 0: one of zeros
