"""Keys that d2ext adds to Detectron2's config, one function per section."""

from detectron2.config import CfgNode


def add_datasets_config(cfg: CfgNode) -> None:
    """Add `DATASETS`, read by `d2ext.data.dataset_paths`."""
    cfg.DATASETS.REGISTER = []  # mappings: name, path; images, split, holdout (part, share, seed)
    cfg.DATASETS.CLASSES = []  # their classes in order; others are dropped; []: as in the files
    cfg.DATASETS.FINAL = ()  # evaluated once after a training, with the best weights


def add_dataloader_config(cfg: CfgNode) -> None:
    """Add `DATALOADER`, read by `d2ext.data.mappers`."""
    cfg.DATALOADER.MAPPER = "auto"  # a registered dataset mapper; auto: the meta-architecture's


def add_input_config(cfg: CfgNode) -> None:
    """Add `INPUT`, read by `d2ext.data`'s `resize`, `augment`, `mixing`, `mapper` and `slices`."""
    cfg.INPUT.RESIZE = "shortest_edge"  # shortest_edge, or to SIZE: stretch, letterbox
    cfg.INPUT.SIZE = [640, 640]  # width and height in pixels, for training and evaluation
    cfg.INPUT.VERTICAL_FLIP = 0.0  # probability of a vertical flip; RANDOM_FLIP is independent
    cfg.INPUT.ROTATION = 0.0  # largest angle in either direction, in degrees
    cfg.INPUT.SCALE_JITTER = (1.0, 1.0)  # smallest and largest factor, applied after resizing
    cfg.INPUT.COLOR_JITTER = 0.0  # relative change of brightness, contrast and saturation
    cfg.INPUT.BRIGHTNESS = 0.0  # relative change of brightness alone
    cfg.INPUT.ALBUMENTATIONS = ""  # .yaml or .json saved by albumentations.save, applied last
    cfg.INPUT.MOSAIC = 0.0  # probability of a mosaic of four images
    cfg.INPUT.COPY_PASTE = 0.0  # probability of pasting objects of another image; needs masks
    cfg.INPUT.MIXUP = 0.0  # probability of blending two images
    cfg.INPUT.SLICE_SIZE = 0  # train on tiles of larger images, with this side in pixels; 0: whole
    cfg.INPUT.SLICE_OVERLAP = 0.2  # minimum overlap of neighbouring tiles, as a share of their side
    cfg.INPUT.UNDIRECTED_BOXES = False  # learn rotated boxes modulo 180 degrees, long side first
    cfg.INPUT.MIN_VISIBLE = 0.1  # objects cropped to a smaller share of their box are dropped


def add_plugins_config(cfg: CfgNode) -> None:
    """Add `PLUGINS` and `PLUGIN_FOLDERS`, read by `d2ext.config.plugins`."""
    cfg.PLUGINS = []  # modules that add sections and register what the config names
    cfg.PLUGIN_FOLDERS = []  # folders of plugins that are beside the config; filled in


def add_auto_config(cfg: CfgNode) -> None:
    """Add `AUTO`, read by `d2ext.engine.auto`."""
    cfg.AUTO = []  # keys to be derived from data and machine; empty once resolved


def add_backbone_config(cfg: CfgNode) -> None:
    """Add `MODEL.SWIN`, `.TIMM`, `.FPN` and `.RESNETS`, read by `d2ext.modeling.backbone`.

    `MODEL.PUBLISHED_WEIGHTS` is read by `d2ext.engine.pretrained`.
    """
    cfg.MODEL.PUBLISHED_WEIGHTS = []  # where WEIGHTS is auto: names to take if they can be had
    swin = cfg.MODEL.SWIN = CfgNode()
    swin.EMBED_DIM = 96  # channels of the first stage; doubled by every further one
    swin.DEPTHS = [2, 2, 6, 2]  # blocks of each stage
    swin.NUM_HEADS = [3, 6, 12, 24]  # attention heads of each stage
    swin.WINDOW_SIZE = 7  # side of an attention window, in tokens
    swin.MLP_RATIO = 4.0  # hidden channels of the MLP, in multiples of the block's
    swin.DROP_PATH_RATE = 0.2  # stochastic depth of the last block; linear from 0 at the first
    swin.PATCH_NORM = True  # LayerNorm after the patch embedding
    swin.USE_CHECKPOINT = True  # gradient checkpointing: a third of the memory, a fifth more time
    swin.OUT_FEATURES = ["stage3", "stage4", "stage5"]  # of stage2 to stage5, strides 4 to 32

    timm = cfg.MODEL.TIMM = CfgNode()
    timm.NAME = "resnet18"  # a name of timm.list_models()
    timm.OUT_FEATURES = ["stride8", "stride16", "stride32"]  # "stride" and a number
    timm.PRETRAINED = False  # fetch timm's weights
    timm.FREEZE_NORM = False  # batch norms keep their statistics, scale and shift
    timm.FREEZE_DEPTHWISE = False  # depthwise convolutions keep their weights

    fpn = cfg.MODEL.FPN
    fpn.BOTTOM_UP = "SwinTransformer"  # registered name of the backbone below FPNBackbone
    fpn.TOP_LEVELS = 2  # coarser levels of strided convolutions, P6 and P7: 0, 1 or 2
    fpn.TOP_FEATURE = ""  # what P6 is made of: a feature of the backbone, or "" for P5
    fpn.TOP_POOL = False  # P6 is every second element of P5 instead, as R-CNN's have it

    resnet = cfg.MODEL.RESNETS  # of build_named_resnet_backbone and NamedRes5ROIHeads
    resnet.STEM = "BasicStem"  # a registered stem
    resnet.BLOCK = "BottleneckBlock"  # a registered block
    resnet.STAGES = ""  # a registered list of stages; "" for that of DEPTH


def add_dyhead_config(cfg: CfgNode) -> None:
    """Add `MODEL.DYHEAD`, read by `d2ext.modeling.neck.dyhead`."""
    dyhead = cfg.MODEL.DYHEAD = CfgNode()
    dyhead.BACKBONE = "FPNBackbone"  # the pyramid below the dynamic head, by registered name
    dyhead.NUM_BLOCKS = 6  # blocks, each of scale, spatial and task attention
    dyhead.COARSE_OFFSETS = "flat"  # larger offsets at a coarser level: flat (published) or resize
    dyhead.USE_CHECKPOINT = True  # gradient checkpointing: half the memory, a seventh more time
    dyhead.SIZE_DIVISIBILITY = 128  # images are padded to multiples of it, in pixels; 32 at least


def add_dense_head_config(cfg: CfgNode) -> None:
    """Add `MODEL.DENSE_HEAD`, read by `d2ext.modeling.meta_arch.dense_detector`."""
    cfg.MODEL.DENSE_HEAD = CfgNode()
    cfg.MODEL.DENSE_HEAD.NAME = "ATSSHead"  # head of META_ARCHITECTURE DenseDetector, by its name
    cfg.MODEL.DENSE_HEAD.ROTATED = False  # it learns and predicts rotated boxes


def add_atss_config(cfg: CfgNode) -> None:
    """Add `MODEL.ATSS`, read by `d2ext.modeling.dense_heads.atss`."""
    atss = cfg.MODEL.ATSS = CfgNode()
    atss.NUM_CLASSES = 80  # set from the data unless a config names another
    atss.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]  # feature maps of the backbone, finest first
    atss.NUM_CONVS = 4  # 3x3 convolutions before the predictors; 0 with DyHead
    atss.CHANNELS = 256  # channels of these convolutions
    atss.NORM = "GN"  # of these convolutions; "" for none
    atss.DEFORMABLE_TOWER = False  # the last of these convolutions is deformable
    atss.PREDICTOR_SIZE = 1  # side of the predictors' kernels: 1 (DynamicHead) or 3 (ATSS)
    atss.TOPK = 9  # candidate anchors of a box on each level
    atss.PRIOR_PROB = 0.01  # the class probability that the bias starts from
    atss.BBOX_REG_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of dx, dy, dw, dh
    atss.FOCAL_LOSS_ALPHA = 0.25  # weight of positives in the focal loss
    atss.FOCAL_LOSS_GAMMA = 2.0  # exponent of the focal loss
    atss.REG_LOSS_WEIGHT = 2.0  # weight of the box loss
    atss.SCORE_THRESH_TEST = 0.05  # of the class probability alone
    atss.TOPK_CANDIDATES_TEST = 1000  # kept per level before NMS
    atss.NMS_THRESH_TEST = 0.6  # IoU


def add_fcos_config(cfg: CfgNode) -> None:
    """Add `MODEL.FCOS`, read by `d2ext.modeling.dense_heads.fcos`."""
    fcos = cfg.MODEL.FCOS = CfgNode()
    fcos.NUM_CLASSES = 80  # set from the data unless a config names another
    fcos.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]  # feature maps of the backbone, finest first
    fcos.NUM_SHARED_CONVS = 0  # 3x3 convolutions below both towers
    fcos.NUM_CLS_CONVS = 4  # 3x3 convolutions of the tower for the classes
    fcos.NUM_BOX_CONVS = 4  # of that for the boxes
    fcos.CHANNELS = 256  # channels of these convolutions
    fcos.DEFORMABLE_TOWER = False  # the last of these convolutions is deformable
    fcos.NORM = "GN"  # of these convolutions; "" for none
    fcos.LEVEL_SCALES = True  # a learnt factor on the boxes of each level
    fcos.SIZES_OF_INTEREST = [64, 128, 256, 512]  # pixels between the levels
    fcos.CENTER_RADIUS = 1.5  # strides from a box's centre that learn it; 0: the whole box
    fcos.QUALITY = "centerness"  # what scores are multiplied by: centerness or iou
    fcos.QUALITY_BRANCH = "box"  # the tower it is predicted from: box or class
    fcos.BOX_LOSS = "giou"  # giou, iou (its logarithm), linear_iou; rotated: linear_iou, prob_iou
    fcos.PRIOR_PROB = 0.01  # the class probability that the bias starts from
    fcos.FOCAL_LOSS_ALPHA = 0.25  # weight of positives in the focal loss
    fcos.FOCAL_LOSS_GAMMA = 2.0  # exponent of the focal loss
    fcos.SCORE_THRESH_TEST = 0.05  # of the class probability
    fcos.THRESH_WITH_QUALITY = False  # of its product with the quality instead
    fcos.TOPK_CANDIDATES_TEST = 1000  # kept per level before NMS
    fcos.NMS_THRESH_TEST = 0.6  # IoU


def add_solver_config(cfg: CfgNode) -> None:
    """Add `SOLVER`, read by `d2ext.engine`."""
    cfg.SOLVER.OPTIMIZER = "SGD"  # SGD or ADAMW
    cfg.SOLVER.LR_FOR_16_IMAGES = 0.0  # where BASE_LR is auto; 0: ADAMW 2e-4, SGD 0.01
    cfg.SOLVER.PARAM_GROUPS = []  # rules: pattern, lr_factor, layer_decay, weight_decay
    cfg.SOLVER.WARMUP_POWER = 4.0  # exponent of the rise where WARMUP_METHOD is "power"
    cfg.SOLVER.MAX_EPOCHS = 0  # length in epochs; 0: MAX_ITER sets the length
    cfg.SOLVER.REFERENCE_BATCH_SIZE = 0  # batch size that LR and schedule are for; 0: any
    cfg.SOLVER.ACCUMULATE = 1  # batches per optimizer step (gradient accumulation)
    cfg.SOLVER.FIND_UNUSED_PARAMETERS = False  # with several processes: some may lack a gradient
    cfg.SOLVER.AMP.DTYPE = "float16"  # float16 or bfloat16
    cfg.SOLVER.EMA = CfgNode()
    cfg.SOLVER.EMA.ENABLED = False  # evaluate and save an exponential moving average of the weights
    cfg.SOLVER.EMA.DECAY = 0.999  # weight of the past per step, ramped up from 0
    cfg.SOLVER.KEEP_CHECKPOINTS = 3  # newest checkpoints kept, besides model_best and model_final


def add_logging_config(cfg: CfgNode) -> None:
    """Add `LOGGING`, read by `d2ext.engine.loggers`."""
    cfg.LOGGING = CfgNode()
    cfg.LOGGING.WRITERS = []  # further loggers by their registered names: csv, wandb, mlflow
    cfg.LOGGING.PROJECT = "d2ext"  # project of W&B, experiment of MLflow
    cfg.LOGGING.NAME = ""  # name of the run; "": that of the output folder


def add_test_config(cfg: CfgNode) -> None:
    """Add `TEST`, read by `d2ext.engine` and `d2ext.evaluation`."""
    cfg.TEST.VAL_LOSS = False  # also log the losses on the evaluation data
    cfg.TEST.BEST_METRIC = "bbox/AP"  # name in metrics.json; its best checkpoint becomes model_best
    cfg.TEST.PATIENCE = 0  # evaluations without a better BEST_METRIC before stopping; 0: never
    cfg.TEST.SLICE_SIZE = 0  # also detect in tiles of this side, in pixels; 0: no tiles
    cfg.TEST.SLICE_OVERLAP = 0.2  # minimum overlap of neighbouring tiles, as a share of their side
    cfg.TEST.AUG.VERTICAL_FLIP = False  # FLIP mirrors vertically, too; semantic masks only
    cfg.TEST.AUG.NMS_THRESH = 0.5  # IoU threshold of the NMS that merges augmented views
    # Also measure masks by boundary IoU, as boundary/AP and boundary_panoptic_seg/PQ.
    cfg.TEST.BOUNDARY_IOU = False
    cfg.TEST.PICTURES = 16  # maximum of validation images in predictions_<name>.jpg; 0: no picture


ALL = (
    add_plugins_config,
    add_datasets_config,
    add_dataloader_config,
    add_input_config,
    add_auto_config,
    add_backbone_config,
    add_dyhead_config,
    add_dense_head_config,
    add_atss_config,
    add_fcos_config,
    add_solver_config,
    add_logging_config,
    add_test_config,
)
