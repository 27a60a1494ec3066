"""How the options of the authors' training scripts, the settings of cases, map to our config."""

from collections.abc import Mapping
from math import pi
from typing import Any

from d2ext.errors import DataError
from d2ext.parity.settings import Settings, check_known

Values = tuple[Any, ...]

# Settings of a case -> keys of our config, where both hold the same.
KEYS = {
    "num_classes": "MODEL.DETR.NUM_CLASSES",
    "num_queries": "MODEL.DETR.NUM_QUERIES",
    "hidden_dim": "MODEL.DETR.CHANNELS",
    "nheads": "MODEL.DETR.NUM_HEADS",
    "dim_feedforward": "MODEL.DETR.FEEDFORWARD",
    "transformer_activation": "MODEL.DETR.ACTIVATION",
    "enc_layers": "MODEL.DETR.ENCODER_LAYERS",
    "dec_layers": "MODEL.DETR.DECODER_LAYERS",
    "dropout": "MODEL.DETR.DROPOUT",
    "pre_norm": "MODEL.DETR.PRE_NORM",
    "aux_loss": "MODEL.DETR.DEEP_SUPERVISION",
    "eos_coef": "MODEL.DETR.LOSS.NO_OBJECT_WEIGHT",
    "focal_alpha": "MODEL.DETR.LOSS.FOCAL_ALPHA",
    "set_cost_class": "MODEL.DETR.MATCHER.CLASS_WEIGHT",
    "set_cost_bbox": "MODEL.DETR.MATCHER.L1_WEIGHT",
    "set_cost_giou": "MODEL.DETR.MATCHER.GIOU_WEIGHT",
    "cls_loss_coef": "MODEL.DETR.LOSS.CLASS_WEIGHT",
    "bbox_loss_coef": "MODEL.DETR.LOSS.L1_WEIGHT",
    "giou_loss_coef": "MODEL.DETR.LOSS.GIOU_WEIGHT",
    "mask_loss_coef": "MODEL.DETR.LOSS.MASK_WEIGHT",
    "dice_loss_coef": "MODEL.DETR.LOSS.DICE_WEIGHT",
    "num_select": "TEST.DETECTIONS_PER_IMAGE",
    "masks": "MODEL.MASK_ON",
}
DEFORMABLE_KEYS = {
    "num_feature_levels": "MODEL.DEFORMABLE_DETR.NUM_LEVELS",
    "enc_n_points": "MODEL.DEFORMABLE_DETR.ENCODER_POINTS",
    "dec_n_points": "MODEL.DEFORMABLE_DETR.DECODER_POINTS",
    "with_box_refine": "MODEL.DEFORMABLE_DETR.BOX_REFINEMENT",
    "two_stage": "MODEL.DEFORMABLE_DETR.TWO_STAGE",
    "num_patterns": "MODEL.DAB_DETR.NUM_PATTERNS",
    "dec_pred_class_embed_share": "MODEL.DINO.SHARE_HEADS",
    "dn_number": "MODEL.DINO.DENOISING.NUM_QUERIES",
    "dn_label_noise_ratio": "MODEL.DINO.DENOISING.LABEL_NOISE",
    "dn_box_noise_scale": "MODEL.DINO.DENOISING.BOX_NOISE",
}
# Unweighted losses of a case -> keys of our config that hold their weights.
WEIGHTS = {
    "loss_ce": "MODEL.DETR.LOSS.CLASS_WEIGHT",
    "loss_bbox": "MODEL.DETR.LOSS.L1_WEIGHT",
    "loss_giou": "MODEL.DETR.LOSS.GIOU_WEIGHT",
    "loss_mask": "MODEL.DETR.LOSS.MASK_WEIGHT",
    "loss_dice": "MODEL.DETR.LOSS.DICE_WEIGHT",
}
# Settings that have one value here, and others that mean the same.
FIXED: Mapping[str, Values] = {
    "position_embedding": ("sine", "v2"),
    "position_embedding_scale": (2 * pi,),
    "batch_norm_type": ("FrozenBatchNorm2d",),
    "backbone_freeze_keywords": (None,),
    "dataset_file": ("coco", "coco_panoptic"),
    "matcher_type": ("HungarianMatcher",),
    "decoder_sa_type": ("sa",),
    "decoder_module_seq": (["sa", "ca", "ffn"],),
    "two_stage_type": ("standard",),
    "two_stage_default_hw": (0.05,),
    "embed_init_tgt": (True,),
    "dec_layer_number": (None,),
    "query_dim": (4,),
    "fix_refpoints_hw": (-1, None),
    "pdetr3_refHW": (-1,),
    "nms_iou_threshold": (-1, None),
    "use_dn": (True,),
    "enc_loss_coef": (1.0,),
    "interm_loss_coef": (1.0,),
    **dict.fromkeys(
        (
            *("unic_layers", "decoder_layer_noise", "add_channel_attention", "add_pos_value"),
            *("use_deformable_box_attn", "two_stage_pat_embed", "two_stage_add_query_num"),
            *("two_stage_bbox_embed_share", "two_stage_class_embed_share", "two_stage_learn_wh"),
            *("two_stage_keep_all_tokens", "no_interm_box_loss", "use_detached_boxes_dec_out"),
            *("dabdetr_yolo_like_anchor_update", "dabdetr_deformable_encoder"),
            *("dabdetr_deformable_decoder", "pdetr3_bbox_embed_diff_each_layer"),
        ),
        (False, 0),
    ),
}
# The script of DAB-DETR lists options that only DAB-Deformable-DETR reads.
SINGLE_SCALE_IGNORED = ("two_stage", "num_feature_levels", "dec_n_points", "enc_n_points")
READ = (
    *("words", "modelname", "backbone", "swin", "dilation", "return_interm_indices", "detections"),
    *("frozen_weights", "pe_temperatureH", "pe_temperatureW", "num_patterns", "lr_backbone"),
    *("loss_weights", "losses", "dn_labelbook_size", "dec_pred_bbox_embed_share"),
)
# Training and logging; and options that act only together with one that is off in `FIXED`.
IGNORED = (
    *("lr", "lr_drop", "lr_drop_epochs", "lr_drop_list", "lr_backbone_names", "param_dict_type"),
    *("lr_linear_proj_names", "lr_linear_proj_mult", "ddetr_lr_param", "sgd", "weight_decay"),
    *("epochs", "batch_size", "clip_max_norm", "onecyclelr", "multi_step_lr", "start_epoch"),
    *("save_checkpoint_interval", "output_dir", "note", "device", "seed", "resume", "eval"),
    *("pretrain_model_path", "finetune_ignore", "num_workers", "debug", "find_unused_params"),
    *("save_results", "save_log", "world_size", "dist_url", "rank", "local_rank", "amp"),
    *("coco_path", "coco_panoptic_path", "remove_difficult", "fix_size", "cache_mode"),
    *("use_ema", "ema_decay", "ema_epoch", "match_unstable_error", "use_checkpoint"),
    # Initial values, which the case's weights replace; and features that nothing reads.
    *("random_refpoints_xy", "return_interm_layers"),
    *("box_attn_type", "dln_xy_noise", "dln_hw_noise"),
)
LOSSES = ("labels", "boxes", "cardinality", "masks")


def check_settings(settings: Settings, fixed: Mapping[str, Values], others: Values) -> None:
    """Refuse settings that have no counterpart here.

    Args:
        settings: the case's "config".
        fixed: settings with one value, or with several that mean the same.
        others: further known names, those of the kind of model.
    Raises:
        DataError: a setting is unknown, or has a value without a counterpart.
    """
    check_known("config", settings, (*KEYS, *fixed, *READ, *IGNORED, *others))
    for name, known in fixed.items():
        if settings.get(name, known[0]) not in known:
            raise DataError(
                f"case.json: config.{name}: {settings[name]!r} is not supported, "
                f"only {' or '.join(map(str, known))}"
            )
    shared = settings.get("dec_pred_class_embed_share", True)
    pairs = {
        "dec_pred_bbox_embed_share": shared,
        "dn_labelbook_size": settings["num_classes"],
    }
    for name, only in pairs.items():
        if settings.get(name, only) != only:
            raise DataError(
                f"case.json: config.{name}: {settings[name]!r} is not supported, only {only!r}"
            )
    check_known("config.losses", dict.fromkeys(settings.get("losses", ())), LOSSES)
    _check_weights(settings.get("loss_weights", {}))


def _check_weights(weights: Mapping[str, float]) -> None:
    """Refuse weights that differ from layer to layer, and those of unknown losses."""
    kinds = {name: "_".join(name.split("_", 2)[:2]) for name in weights}
    for name, kind in kinds.items():
        check_known("config.loss_weights", {kind: None}, WEIGHTS)
        if weights[name] != weights.get(kind, weights[name]):
            raise DataError(
                f"case.json: config.loss_weights: {name} weighs {weights[name]}, but {kind} "
                f"{weights[kind]}: all layers have the same weights here"
            )
