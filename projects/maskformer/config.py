"""The config section of MaskFormer, Mask2Former and the per-pixel baselines."""

from detectron2.config import CfgNode


def add_maskformer_config(cfg: CfgNode) -> None:
    """Add `MODEL.MASK_FORMER`, read by all models of the project."""
    model = cfg.MODEL.MASK_FORMER = CfgNode()
    # What is learnt: "semantic" from semantic masks, "instance" from instance masks, "panoptic"
    # from instances of all classes, things and stuff.
    model.TASK = "semantic"
    # Thing classes of instance segmentation, set from the data unless a config names another. The
    # other tasks have MODEL.SEM_SEG_HEAD.NUM_CLASSES, and ignore SEM_SEG_HEAD.IGNORE_VALUE.
    model.NUM_CLASSES = 80
    model.THING_IDS = list(range(80))  # of panoptic segmentation: the classes that are things
    model.IN_FEATURES = ["res2", "res3", "res4", "res5"]  # of the backbone, finest first
    model.SIZE_DIVISIBILITY = 32  # images are padded to multiples of it, in pixels; 0: no padding
    model.CHANNELS = 256  # width of pixel decoder and transformer
    model.NUM_QUERIES = 100  # at least the most masks of an image
    model.NUM_HEADS = 8  # of attention
    model.FEEDFORWARD = 2048  # hidden width of the feed-forward parts of the decoder
    model.DECODER_LAYERS = 6  # Mask2Former: 9
    model.DROPOUT = 0.1  # probability of dropout
    model.PRE_NORM = False  # layer norms before attention; MaskFormer only
    model.DEEP_SUPERVISION = True  # losses of every decoder layer

    pixel = model.PIXEL_DECODER = CfgNode()
    pixel.NORM = "GN"  # of the pyramid's convolutions
    pixel.ENCODER_LAYERS = 0  # on the coarsest map (MaskFormer) or on three maps (Mask2Former: 6)
    pixel.ENCODER_FEEDFORWARD = 2048  # hidden width of its feed-forward parts; Mask2Former: 1024
    pixel.ENCODER_POINTS = 4  # samples per head and level; Mask2Former only
    pixel.ENCODER_LEVELS = 3  # coarsest maps of IN_FEATURES that it attends to; Mask2Former only

    loss = model.LOSS = CfgNode()  # weights of losses and of matching costs
    loss.CLASS_WEIGHT = 1.0  # weight of the class
    loss.MASK_WEIGHT = 20.0  # weight of the mask loss
    loss.DICE_WEIGHT = 1.0  # weight of the dice loss of masks
    loss.NO_OBJECT_WEIGHT = 0.1  # of "no object" in the cross-entropy
    # Per mask, in losses and matching; 0: every pixel of the predicted masks. Mask2Former only.
    loss.NUM_POINTS = 12544
    loss.OVERSAMPLE_RATIO = 3.0  # candidates per point
    loss.IMPORTANCE_RATIO = 0.75  # share of the points that are the most uncertain candidates
    loss.PER_PIXEL = "hard_pixel_mining"  # of the per-pixel baselines, or "cross_entropy"

    test = model.TEST = CfgNode()
    test.TASKS = ["semantic"]  # what is returned: semantic, instance, panoptic
    test.SCORE_THRESH = 0.0  # least class score of an instance
    test.OBJECT_THRESH = 0.8  # least class score of a panoptic segment
    test.OVERLAP_THRESH = 0.8  # least visible part of the mask of a panoptic segment


def add_maskformer_input_config(cfg: CfgNode) -> None:
    """Add `INPUT.MASK_FORMER`, read by the dataset mapper in training."""
    section = cfg.INPUT.MASK_FORMER = CfgNode()
    # Least and largest scale of large-scale jitter: the image is fitted into a square of SIZE times
    # the scale, then cropped or padded to SIZE. []: INPUT.MIN_SIZE_TRAIN and INPUT.CROP.
    section.SCALE_JITTER = []
    section.SIZE = 1024  # in pixels
    section.SINGLE_CATEGORY_MAX_AREA = 1.0  # largest part of a crop of one class; 1: no limit
    section.COLOR_SSD = False  # random brightness, contrast, saturation and hue, as in SSD
