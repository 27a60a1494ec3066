"""The config sections of Deformable DETR, DAB-Deformable-DETR and DINO."""

from detectron2.config import CfgNode


def add_deformable_detr_config(cfg: CfgNode) -> None:
    """Add `MODEL.DEFORMABLE_DETR`, read by all models with deformable attention."""
    deformable = cfg.MODEL.DEFORMABLE_DETR = CfgNode()
    # Feature levels: those of MODEL.DETR.IN_FEATURES and coarser ones of stride 2 below them.
    deformable.NUM_LEVELS = 4
    deformable.ENCODER_POINTS = 4  # samples per head and level
    deformable.DECODER_POINTS = 4
    deformable.BOX_REFINEMENT = False  # decoder layers refine boxes, each with heads of its own
    deformable.TWO_STAGE = False  # queries from proposals of the encoder; Deformable DETR only


def add_dino_config(cfg: CfgNode) -> None:
    """Add `MODEL.DINO`."""
    dino = cfg.MODEL.DINO = CfgNode()
    dino.SHARE_HEADS = True  # one class and one box head for all decoder layers
    # The transformer knows in evaluation which pixels are padding; detrex's weights: False.
    dino.MASK_PADDING_TEST = True

    noise = dino.DENOISING = CfgNode()
    noise.NUM_QUERIES = 100  # positive noised objects per image, in whole groups; 0: no denoising
    noise.LABEL_NOISE = 0.5  # twice the probability that a class is replaced
    noise.BOX_NOISE = 1.0  # part of half a box by which its sides move at most
