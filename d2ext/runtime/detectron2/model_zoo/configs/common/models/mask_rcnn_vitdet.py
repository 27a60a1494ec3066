"""Mask R-CNN on a plain ViT-B (ViTDet, arXiv:2203.16527)."""

from functools import partial

from torch import nn

from detectron2.config import LazyCall
from detectron2.modeling import SimpleFeaturePyramid, ViT
from detectron2.modeling.backbone.fpn import LastLevelMaxPool

from ..data.constants import constants  # noqa: F401  (part of the config)
from .mask_rcnn_fpn import model
from .parts import pixels

model.update(pixels("RGB"))
model.backbone = LazyCall(SimpleFeaturePyramid)(
    net=LazyCall(ViT)(
        img_size=1024,
        patch_size=16,
        embed_dim=768,
        depth=12,
        num_heads=12,
        mlp_ratio=4,
        qkv_bias=True,
        drop_path_rate=0.1,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
        window_block_indexes=[i for i in range(12) if i % 3 != 2],  # every third sees all
        residual_block_indexes=[],
        out_feature="last_feat",
    ),
    in_feature="${.net.out_feature}",
    out_channels=256,
    scale_factors=(4.0, 2.0, 1.0, 0.5),
    square_pad=1024,
    norm="LN",
    top_block=LazyCall(LastLevelMaxPool)(),
)
model.proposal_generator.head.conv_dims = [-1, -1]
model.roi_heads.box_head.update(conv_dims=[256] * 4, fc_dims=[1024], conv_norm="LN")
model.roi_heads.mask_head.conv_norm = "LN"
