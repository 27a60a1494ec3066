"""Default values of every key of Detectron2's config schema, version 2."""

from typing import Any

DEFAULTS: dict[str, Any] = {
    "CUDNN_BENCHMARK": False,  # benchmark the algorithms of cuDNN; pays off for images of one size
    "DATALOADER": {
        # batches of only wide or only tall images, which need less padding
        "ASPECT_RATIO_GROUPING": True,
        "FILTER_EMPTY_ANNOTATIONS": True,  # filter out training images without objects
        "NUM_WORKERS": 4,  # processes that load data, per process that trains
        "REPEAT_SQRT": True,  # RepeatFactorTrainingSampler: factor with a square root
        # RepeatFactorTrainingSampler: frequency below which classes repeat
        "REPEAT_THRESHOLD": 0.0,
        # TrainingSampler, RepeatFactorTrainingSampler or RandomSubsetTrainingSampler
        "SAMPLER_TRAIN": "TrainingSampler",
    },
    "DATASETS": {
        "PRECOMPUTED_PROPOSAL_TOPK_TEST": 1000,  # proposals kept per image
        "PRECOMPUTED_PROPOSAL_TOPK_TRAIN": 2000,  # proposals kept per image
        "PROPOSAL_FILES_TEST": (),  # one per dataset in TEST, if MODEL.LOAD_PROPOSALS
        "PROPOSAL_FILES_TRAIN": (),  # one per dataset in TRAIN, if MODEL.LOAD_PROPOSALS
        "TEST": (),  # registered names
        "TRAIN": (),  # registered names
    },
    "FLOAT32_PRECISION": "",  # of matrix products: highest, high or medium; '' leaves torch's
    "GLOBAL": {
        "HACK": 1.0,  # for experiments by global_cfg
    },
    "INPUT": {
        "CROP": {
            "ENABLED": False,  # random crops in training
            # height and width: relative to the image, or in pixels for absolute types
            "SIZE": [0.9, 0.9],
            "TYPE": "relative_range",  # relative, relative_range, absolute or absolute_range
        },
        "FORMAT": "BGR",  # channels: BGR, RGB, L or what PIL knows
        "MASK_FORMAT": "polygon",  # polygon or bitmask
        "MAX_SIZE_TEST": 1333,  # limit of the longer side, in pixels
        "MAX_SIZE_TRAIN": 1333,  # limit of the longer side, in pixels
        "MIN_SIZE_TEST": 800,  # shorter side, in pixels; 0 keeps the image's size
        "MIN_SIZE_TRAIN": (800,),  # shorter side, in pixels: choices, or the ends of a range
        "MIN_SIZE_TRAIN_SAMPLING": "choice",  # choice or range
        "RANDOM_FLIP": "horizontal",  # horizontal, vertical or none
    },
    "MODEL": {
        "ANCHOR_GENERATOR": {
            "ANGLES": [[-90, 0, 90]],  # degrees; one list for all features, or one each
            # height / width; one list for all features, or one each
            "ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
            "NAME": "DefaultAnchorGenerator",  # registered name
            "OFFSET": 0.0,  # offset of the first centre in strides; 0 or 0.5
            "SIZES": [[32, 64, 128, 256, 512]],  # pixels; one list for all features, or one each
        },
        "BACKBONE": {
            "FREEZE_AT": 2,  # frozen stages: 1 the stem, 2 also res2, ...
            "NAME": "build_resnet_backbone",  # registered name
        },
        "DEVICE": "cuda",  # cuda, cuda:0, cpu...
        "FPN": {
            "FUSE_TYPE": "sum",  # sum or avg of the lateral and the upper features
            "IN_FEATURES": [],  # of the bottom-up backbone, from fine to coarse
            "NORM": "",  # '' none, BN, SyncBN, GN...
            "OUT_CHANNELS": 256,  # channels of every level
        },
        "KEYPOINT_ON": False,  # predict keypoints
        "LOAD_PROPOSALS": False,  # take proposals from files
        "MASK_ON": False,  # predict masks
        "META_ARCHITECTURE": "GeneralizedRCNN",  # registered name
        "PANOPTIC_FPN": {
            "COMBINE": {
                "ENABLED": True,  # merge instances and semantic segmentation
                "INSTANCES_CONFIDENCE_THRESH": 0.5,  # minimum score of instances
                "OVERLAP_THRESH": 0.5,  # maximum fraction of an instance covered by others
                "STUFF_AREA_LIMIT": 4096,  # minimum area of stuff, in pixels
            },
            "INSTANCE_LOSS_WEIGHT": 1.0,  # weight relative to the semantic loss
        },
        "PIXEL_MEAN": [103.53, 116.28, 123.675],  # per channel of INPUT.FORMAT, in 0..255
        "PIXEL_STD": [1.0, 1.0, 1.0],  # per channel; 1 if the backbone's first weights include it
        "PROPOSAL_GENERATOR": {
            "MIN_SIZE": 0,  # minimum side of a proposal, in pixels
            "NAME": "RPN",  # registered name, or PrecomputedProposals
        },
        "RESNETS": {
            "DEFORM_MODULATED": False,  # the second version of deformable convolution
            "DEFORM_NUM_GROUPS": 1,  # groups of offsets
            "DEFORM_ON_PER_STAGE": [False, False, False, False],  # res2 to res5
            "DEPTH": 50,  # 18, 34, 50, 101 or 152
            "NORM": "FrozenBN",  # FrozenBN, BN, SyncBN, GN...
            "NUM_GROUPS": 1,  # 1 is ResNet, more is ResNeXt
            "OUT_FEATURES": ["res4"],  # of stem and res2 to res5
            "RES2_OUT_CHANNELS": 256,  # channels of res2; doubled by every further stage
            "RES5_DILATION": 1,  # 1, or 2 to keep the resolution of res4
            "STEM_OUT_CHANNELS": 64,  # channels of the first convolution
            "STRIDE_IN_1X1": True,  # as in the first ResNets; False as in torchvision's
            "WIDTH_PER_GROUP": 64,  # bottleneck channels of each group in res2
        },
        "RETINANET": {
            "BBOX_REG_LOSS_TYPE": "smooth_l1",  # smooth_l1, giou, diou or ciou
            "BBOX_REG_WEIGHTS": (1.0, 1.0, 1.0, 1.0),  # weights of dx, dy, dw, dh
            "FOCAL_LOSS_ALPHA": 0.25,  # weight of positives
            "FOCAL_LOSS_GAMMA": 2.0,  # exponent that down-weights easy examples
            "IN_FEATURES": ["p3", "p4", "p5", "p6", "p7"],  # from fine to coarse
            # 0 negative, -1 ignored, 1 positive: below, between and above the thresholds
            "IOU_LABELS": [0, -1, 1],
            "IOU_THRESHOLDS": [0.4, 0.5],  # of anchors with boxes
            "NMS_THRESH_TEST": 0.5,  # IoU
            "NORM": "",  # '' none, BN, SyncBN, GN...
            "NUM_CLASSES": 80,  # without the background
            "NUM_CONVS": 4,  # before the predictors
            "PRIOR_PROB": 0.01,  # initial class probability, which sets the bias
            "SCORE_THRESH_TEST": 0.05,  # minimum score
            "SMOOTH_L1_LOSS_BETA": 0.1,  # threshold between the quadratic and the linear part
            "TOPK_CANDIDATES_TEST": 1000,  # kept per level before NMS
        },
        "ROI_BOX_CASCADE_HEAD": {
            # weights of dx, dy, dw, dh per stage
            "BBOX_REG_WEIGHTS": (
                (10.0, 10.0, 5.0, 5.0),
                (20.0, 20.0, 10.0, 10.0),
                (30.0, 30.0, 15.0, 15.0),
            ),
            "IOUS": (0.5, 0.6, 0.7),  # from which a proposal is positive in each stage
        },
        "ROI_BOX_HEAD": {
            "BBOX_REG_LOSS_TYPE": "smooth_l1",  # smooth_l1, giou, diou or ciou
            "BBOX_REG_LOSS_WEIGHT": 1.0,  # weight relative to the other losses
            "BBOX_REG_WEIGHTS": (10.0, 10.0, 5.0, 5.0),  # weights of dx, dy, dw, dh
            "CLS_AGNOSTIC_BBOX_REG": False,  # one box for all classes
            "CONV_DIM": 256,  # channels of the convolutions
            "FC_DIM": 1024,  # width of the linear layers
            "FED_LOSS_FREQ_WEIGHT_POWER": 0.5,  # exponent of class frequency for sampling
            "FED_LOSS_NUM_CLASSES": 50,  # classes sampled per iteration
            "NAME": "",  # registered name
            "NORM": "",  # '' none, BN, SyncBN, GN...
            "NUM_CONV": 0,  # convolutions before the linear layers
            "NUM_FC": 0,  # linear layers before the predictors
            "POOLER_RESOLUTION": 14,  # side of the pooled features
            "POOLER_SAMPLING_RATIO": 0,  # samples per side of each cell; 0 adapts to the region
            "POOLER_TYPE": "ROIAlignV2",  # ROIAlignV2, ROIAlign, ROIPool or ROIAlignRotated
            "SMOOTH_L1_BETA": 0.0,  # threshold between the quadratic and the linear part
            # other heads train on this head's boxes, not on proposals
            "TRAIN_ON_PRED_BOXES": False,
            "USE_FED_LOSS": False,  # federated loss over sampled classes; needs USE_SIGMOID_CE
            "USE_SIGMOID_CE": False,  # sigmoid instead of softmax
        },
        "ROI_HEADS": {
            "BATCH_SIZE_PER_IMAGE": 512,  # proposals sampled in training
            "IN_FEATURES": ["res4"],  # from fine to coarse
            "IOU_LABELS": [0, 1],  # below and above the threshold: 0 negative, 1 positive
            "IOU_THRESHOLDS": [0.5],  # of proposals with boxes
            "NAME": "Res5ROIHeads",  # registered name
            "NMS_THRESH_TEST": 0.5,  # IoU
            "NUM_CLASSES": 80,  # without the background
            "POSITIVE_FRACTION": 0.25,  # maximum fraction of the sample
            "PROPOSAL_APPEND_GT": True,  # add the ground truth to the proposals
            "SCORE_THRESH_TEST": 0.05,  # minimum score
        },
        "ROI_KEYPOINT_HEAD": {
            "CONV_DIMS": (512, 512, 512, 512, 512, 512, 512, 512),  # channels of the convolutions
            "LOSS_WEIGHT": 1.0,  # weight relative to the other losses
            "MIN_KEYPOINTS_PER_IMAGE": 1,  # labelled ones that a training image needs
            "NAME": "KRCNNConvDeconvUpsampleHead",  # registered name
            "NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS": True,  # else by their expected number
            "NUM_KEYPOINTS": 17,  # per object
            "POOLER_RESOLUTION": 14,  # side of the pooled features
            "POOLER_SAMPLING_RATIO": 0,  # samples per side of each cell; 0 adapts to the region
            "POOLER_TYPE": "ROIAlignV2",  # see ROI_BOX_HEAD
        },
        "ROI_MASK_HEAD": {
            "CLS_AGNOSTIC_MASK": False,  # one mask for all classes
            "CONV_DIM": 256,  # channels of the convolutions
            "NAME": "MaskRCNNConvUpsampleHead",  # registered name
            "NORM": "",  # '' none, BN, SyncBN, GN...
            "NUM_CONV": 0,  # convolutions before the upsampling
            "POOLER_RESOLUTION": 14,  # side of the pooled features
            "POOLER_SAMPLING_RATIO": 0,  # samples per side of each cell; 0 adapts to the region
            "POOLER_TYPE": "ROIAlignV2",  # see ROI_BOX_HEAD
        },
        "RPN": {
            "BATCH_SIZE_PER_IMAGE": 256,  # anchors sampled in training
            "BBOX_REG_LOSS_TYPE": "smooth_l1",  # smooth_l1, giou, diou or ciou
            "BBOX_REG_LOSS_WEIGHT": 1.0,  # weight relative to the objectness loss
            "BBOX_REG_WEIGHTS": (1.0, 1.0, 1.0, 1.0),  # weights of dx, dy, dw, dh
            "BOUNDARY_THRESH": -1,  # pixels that anchors may leave the image by in training; -1 any
            "CONV_DIMS": [-1],  # channels of the convolutions; -1 as the input's
            "HEAD_NAME": "StandardRPNHead",  # registered name
            "IN_FEATURES": ["res4"],  # from fine to coarse
            # 0 negative, -1 ignored, 1 positive: below, between and above the thresholds
            "IOU_LABELS": [0, -1, 1],
            "IOU_THRESHOLDS": [0.3, 0.7],  # of anchors with boxes
            "LOSS_WEIGHT": 1.0,  # weight relative to the other losses
            "NMS_THRESH": 0.7,  # IoU
            "POSITIVE_FRACTION": 0.5,  # maximum fraction of the sample
            "POST_NMS_TOPK_TEST": 1000,  # kept of all levels after NMS
            "POST_NMS_TOPK_TRAIN": 2000,  # kept of all levels after NMS
            "PRE_NMS_TOPK_TEST": 6000,  # kept per level before NMS
            "PRE_NMS_TOPK_TRAIN": 12000,  # kept per level before NMS
            "SMOOTH_L1_BETA": 0.0,  # threshold between the quadratic and the linear part
        },
        "SEM_SEG_HEAD": {
            "COMMON_STRIDE": 4,  # of the sum of the levels
            "CONVS_DIM": 128,  # channels of the convolutions
            "IGNORE_VALUE": 255,  # label of pixels excluded from the loss
            "IN_FEATURES": ["p2", "p3", "p4", "p5"],  # from fine to coarse
            "LOSS_WEIGHT": 1.0,  # weight relative to the other losses
            "NAME": "SemSegFPNHead",  # registered name
            "NORM": "GN",  # '' none, BN, SyncBN, GN...
            "NUM_CLASSES": 54,  # stuff, and one for all things
        },
        "WEIGHTS": "",  # file or URL of the initial weights
    },
    "OUTPUT_DIR": "./output",  # of everything written
    "SEED": -1,  # below 0: a random one
    "SOLVER": {
        "AMP": {
            "ENABLED": False,  # mixed precision
        },
        "BASE_LR": 0.001,  # for IMS_PER_BATCH images per step
        "BASE_LR_END": 0.0,  # that WarmupCosineLR falls to
        "BIAS_LR_FACTOR": 1.0,  # of biases, in BASE_LR
        "CHECKPOINT_PERIOD": 5000,  # iterations
        "CLIP_GRADIENTS": {
            "CLIP_TYPE": "value",  # value or norm, of each parameter by itself
            "CLIP_VALUE": 1.0,  # the largest value or norm
            "ENABLED": False,  # clip gradients by value or norm
            "NORM_TYPE": 2.0,  # 2.0, or inf
        },
        "GAMMA": 0.1,  # factor at each of STEPS
        "IMS_PER_BATCH": 16,  # images per step, of all processes
        # WarmupMultiStepLR, WarmupCosineLR or WarmupStepWithFixedGammaLR
        "LR_SCHEDULER_NAME": "WarmupMultiStepLR",
        "MAX_ITER": 40000,  # iterations
        "MOMENTUM": 0.9,  # of SGD
        "NESTEROV": False,  # momentum of SGD as Nesterov has it
        "NUM_DECAYS": 3,  # steps of WarmupStepWithFixedGammaLR
        # processes that batch, rate and iterations are for; 0 as written
        "REFERENCE_WORLD_SIZE": 0,
        "RESCALE_INTERVAL": False,  # compress the schedule into the time after the warm-up
        "STEPS": (30000,),  # iterations at which the rate falls
        "WARMUP_FACTOR": 0.001,  # factor of the first iteration
        "WARMUP_ITERS": 1000,  # iterations
        "WARMUP_METHOD": "linear",  # linear or constant
        "WEIGHT_DECAY": 0.0001,  # of all parameters that no other key names
        "WEIGHT_DECAY_BIAS": None,  # None: as WEIGHT_DECAY
        "WEIGHT_DECAY_NORM": 0.0,  # of normalisation layers
    },
    "TEST": {
        "AUG": {
            "ENABLED": False,  # test-time augmentation over sizes and flips
            "FLIP": True,  # also flipped horizontally
            "MAX_SIZE": 4000,  # limit of the longer side, in pixels
            # shorter sides, in pixels
            "MIN_SIZES": (400, 500, 600, 700, 800, 900, 1000, 1100, 1200),
        },
        "DETECTIONS_PER_IMAGE": 100,  # at most
        "EVAL_PERIOD": 0,  # iterations; 0: at the end
        "EXPECTED_RESULTS": [],  # [task, metric, value, tolerance] to verify
        "KEYPOINT_OKS_SIGMAS": [],  # per keypoint; [] for those of COCO
        "PRECISE_BN": {
            "ENABLED": False,  # recompute the statistics of batch norm before evaluation
            "NUM_ITER": 200,  # batches to average over
        },
    },
    "VERSION": 2,  # of this schema
    "VIS_PERIOD": 0,  # iterations between visualisations of the training; 0: none
}
