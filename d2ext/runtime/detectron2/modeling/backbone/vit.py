"""Plain vision transformers for detection (ViTDet: Li et al. 2022, arXiv:2203.16527)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from fvcore.nn import weight_init
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth

from detectron2.layers import CNNBlockBase, Conv2d, ShapeSpec, get_norm

from .backbone import Backbone
from .utils import (
    Mlp,
    PatchEmbed,
    add_decomposed_rel_pos,
    get_abs_pos,
    init_transformer,
    position_embedding,
    window_partition,
    window_unpartition,
)

__all__ = ["SimpleFeaturePyramid", "ViT", "get_vit_lr_decay_rate"]

Layer = Callable[..., nn.Module]


class Attention(nn.Module):
    """Multi-head attention between all tokens of a map.

    Args:
        dim: channels.
        num_heads: number of attention heads.
        qkv_bias: add a bias to queries, keys and values.
        use_rel_pos: add relative position embeddings to the scores.
        rel_pos_zero_init: initialise these embeddings to zero, otherwise randomly.
        input_size: (height, width) in tokens for which they are created.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        qkv_bias: bool = True,
        use_rel_pos: bool = False,
        rel_pos_zero_init: bool = True,
        input_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        channels = dim // num_heads
        self.scale = channels**-0.5
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.use_rel_pos = use_rel_pos
        if not use_rel_pos:
            return
        if input_size is None:
            raise ValueError("relative positions need an input_size")
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * input_size[0] - 1, channels))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * input_size[1] - 1, channels))
        if not rel_pos_zero_init:
            nn.init.trunc_normal_(self.rel_pos_h, std=0.02)
            nn.init.trunc_normal_(self.rel_pos_w, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, dim) to the same shape."""
        size = (x.shape[1], x.shape[2])
        qkv = self.qkv(x).flatten(1, 2).unflatten(2, (3, self.num_heads, -1))
        # Three tensors (B * heads, tokens, channels).
        q, k, v = qkv.permute(2, 0, 3, 1, 4).flatten(1, 2).unbind(0)
        scores = (q * self.scale) @ k.transpose(1, 2)
        if self.use_rel_pos:
            scores = add_decomposed_rel_pos(scores, q, self.rel_pos_h, self.rel_pos_w, size, size)
        out = (scores.softmax(dim=-1) @ v).unflatten(0, (-1, self.num_heads))
        return self.proj(out.transpose(1, 2).flatten(2).unflatten(1, size))


class ResBottleneckBlock(CNNBlockBase):
    """Bottleneck of 1x1, 3x3, 1x1 convolutions and a shortcut; initialised to the identity."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bottleneck_channels: int,
        norm: str | Layer = "LN",
        act_layer: Layer = nn.GELU,
    ) -> None:
        super().__init__(in_channels, out_channels, 1)
        inner = bottleneck_channels
        self.conv1 = Conv2d(in_channels, inner, 1, bias=False)
        self.norm1 = get_norm(norm, inner)
        self.act1 = act_layer()
        self.conv2 = Conv2d(inner, inner, 3, padding=1, bias=False)
        self.norm2 = get_norm(norm, inner)
        self.act2 = act_layer()
        self.conv3 = Conv2d(inner, out_channels, 1, bias=False)
        self.norm3 = get_norm(norm, out_channels)
        for conv in (self.conv1, self.conv2, self.conv3):
            weight_init.c2_msra_fill(conv)
        # The block starts as the identity, so that pretrained features are unchanged.
        nn.init.zeros_(cast(nn.Module, self.norm3).get_parameter("weight"))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H, W)."""
        out = x
        for layer in self.children():
            out = layer(out)
        return x + out


class Block(nn.Module):
    """Transformer block: windowed or global attention and an MLP; optionally a residual block.

    Args:
        dim, num_heads, qkv_bias, use_rel_pos, rel_pos_zero_init, input_size: as in `Attention`.
        mlp_ratio: hidden channels of the MLP, in multiples of `dim`.
        drop_path: stochastic depth: probability of dropping a branch in training.
        norm_layer, act_layer: constructors of the norms and of the MLP's activation.
        window_size: side of a window in tokens; 0 for global attention.
        use_residual_block: append a `ResBottleneckBlock` with half the channels inside.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path: float = 0.0,
        norm_layer: Layer = nn.LayerNorm,
        act_layer: Any = nn.GELU,
        use_rel_pos: bool = False,
        rel_pos_zero_init: bool = True,
        window_size: int = 0,
        use_residual_block: bool = False,
        input_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.window_size = window_size
        self.norm1 = norm_layer(dim)
        self.attn = Attention(
            dim,
            num_heads=num_heads,
            qkv_bias=qkv_bias,
            use_rel_pos=use_rel_pos,
            rel_pos_zero_init=rel_pos_zero_init,
            # In windows, relative positions do not depend on the image.
            input_size=(window_size, window_size) if window_size else input_size,
        )
        self.drop_path = StochasticDepth(drop_path, "row")
        self.norm2 = norm_layer(dim)
        self.mlp = Mlp(dim, hidden_features=int(dim * mlp_ratio), act_layer=act_layer)
        self.use_residual_block = use_residual_block
        if use_residual_block:
            self.residual = ResBottleneckBlock(dim, dim, dim // 2, norm="LN", act_layer=act_layer)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, dim) to the same shape."""
        x = x + self.drop_path(self._attend(self.norm1(x)))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        if self.use_residual_block:
            x = self.residual(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x

    def _attend(self, x: Tensor) -> Tensor:
        if self.window_size == 0:
            return self.attn(x)
        windows, padded = window_partition(x, self.window_size)
        size = (x.shape[1], x.shape[2])
        return window_unpartition(self.attn(windows), self.window_size, padded, size)


class ViT(Backbone):
    """ViT with one feature map at the stride of a patch.

    Args:
        img_size: side of the images in pixels for which relative positions are created.
        patch_size: side of a patch, in pixels.
        in_chans: channels of the image.
        embed_dim, depth: channels and number of blocks.
        num_heads, mlp_ratio, qkv_bias, norm_layer, act_layer: as in `Block`.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0.
        use_abs_pos, use_rel_pos, rel_pos_zero_init: kinds of position embeddings.
        window_size, window_block_indexes: size of the windows, and the blocks that use them.
        residual_block_indexes: the blocks with convolutions.
        use_act_checkpoint: activation (gradient) checkpointing of the blocks, to save memory.
        pretrain_img_size, pretrain_use_cls_token: of the pretrained absolute positions.
        out_feature: name of the map.
    """

    def __init__(
        self,
        img_size: int = 1024,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        norm_layer: Layer = nn.LayerNorm,
        act_layer: Any = nn.GELU,
        use_abs_pos: bool = True,
        use_rel_pos: bool = False,
        rel_pos_zero_init: bool = True,
        window_size: int = 0,
        window_block_indexes: Sequence[int] = (),
        residual_block_indexes: Sequence[int] = (),
        use_act_checkpoint: bool = False,
        pretrain_img_size: int = 224,
        pretrain_use_cls_token: bool = True,
        out_feature: str = "last_feat",
    ) -> None:
        super().__init__()
        self.pretrain_use_cls_token = pretrain_use_cls_token
        self.use_act_checkpoint = use_act_checkpoint
        patch = (patch_size, patch_size)
        self.patch_embed = PatchEmbed(patch, patch, in_chans=in_chans, embed_dim=embed_dim)
        self.pos_embed: nn.Parameter | None = None
        if use_abs_pos:
            self.pos_embed = position_embedding(
                pretrain_img_size, patch_size, embed_dim, pretrain_use_cls_token
            )
        side = img_size // patch_size
        self.blocks = nn.ModuleList(
            Block(
                dim=embed_dim,
                num_heads=num_heads,
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                drop_path=rate,
                norm_layer=norm_layer,
                act_layer=act_layer,
                use_rel_pos=use_rel_pos,
                rel_pos_zero_init=rel_pos_zero_init,
                window_size=window_size if index in window_block_indexes else 0,
                use_residual_block=index in residual_block_indexes,
                input_size=(side, side),
            )
            for index, rate in enumerate(torch.linspace(0, drop_path_rate, depth).tolist())
        )
        self._out_features = [out_feature]
        self._out_feature_channels = {out_feature: embed_dim}
        self._out_feature_strides = {out_feature: patch_size}
        self.apply(init_transformer)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map (B, in_chans, H, W) to {out_feature: (B, embed_dim, H / patch, W / patch)}."""
        x = self.patch_embed(x)
        if self.pos_embed is not None:
            size = (x.shape[1], x.shape[2])
            x = x + get_abs_pos(self.pos_embed, self.pretrain_use_cls_token, size)
        for block in self.blocks:
            # Activations of the block are recomputed in the backward pass.
            if self.use_act_checkpoint and self.training:
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return {self._out_features[0]: x.permute(0, 3, 1, 2)}


class SimpleFeaturePyramid(Backbone):
    """ViTDet's pyramid "p<level>" from one map, each level up- or downsampled from it.

    Args:
        net: backbone of the map.
        in_feature: name of the map.
        out_channels: channels of every level.
        scale_factors: scale of each level relative to the map: any of 4, 2, 1 and 0.5.
        top_block, square_pad: as in `FPN`.
        norm: normalisation, see `get_norm`.
    """

    def __init__(
        self,
        net: Backbone,
        in_feature: str,
        out_channels: int,
        scale_factors: Sequence[float],
        top_block: Any = None,
        norm: str = "LN",
        square_pad: int = 0,
    ) -> None:
        super().__init__()
        self.scale_factors, self.in_feature = scale_factors, in_feature
        shape: Any = net.output_shape()[in_feature]
        strides = [int(shape.stride / scale) for scale in scale_factors]
        levels = [int(math.log2(stride)) for stride in strides]
        self.stages: list[nn.Module] = []
        for scale, level in zip(scale_factors, levels, strict=True):
            stage = _pyramid_stage(shape.channels, out_channels, scale, norm)
            self.add_module(f"simfp_{level}", stage)
            self.stages.append(stage)
        self.net, self.top_block = net, top_block
        extra = 0 if top_block is None else top_block.num_levels
        levels += [levels[-1] + 1 + index for index in range(extra)]
        self._out_feature_strides = {f"p{level}": 2**level for level in levels}
        self._out_features = list(self._out_feature_strides)
        self._out_feature_channels = dict.fromkeys(self._out_features, out_channels)
        self._size_divisibility = strides[-1]
        self._square_pad = square_pad

    @property
    def padding_constraints(self) -> dict[str, int]:
        # The state dict key is the official one.
        return {"size_divisiblity": self._size_divisibility, "square_size": self._square_pad}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map images (B, C, H, W) to {"p<level>": (B, out_channels, H / stride, W / stride)}."""
        bottom_up = self.net(x)
        results = [stage(bottom_up[self.in_feature]) for stage in self.stages]
        if self.top_block is not None:
            source = self.top_block.in_feature
            if source in bottom_up:
                results.extend(self.top_block(bottom_up[source]))
            else:
                results.extend(self.top_block(results[self._out_features.index(source)]))
        return dict(zip(self._out_features, results, strict=True))

    def output_shape(self) -> dict[str, ShapeSpec]:
        return super().output_shape()


def _pyramid_stage(dim: int, out_channels: int, scale: float, norm: str) -> nn.Sequential:
    layers: list[Any] = []
    if scale == 4.0:
        layers += [_twice(dim), get_norm(norm, dim // 2), nn.GELU(), _twice(dim // 2)]
    elif scale == 2.0:
        layers.append(_twice(dim))
    elif scale == 0.5:
        layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
    elif scale != 1.0:
        raise NotImplementedError(f"scale_factors are 4, 2, 1 and 0.5, got {scale}")
    channels = dim // max(1, int(scale))
    for in_channels, size in ((channels, 1), (out_channels, 3)):
        layers.append(
            Conv2d(
                in_channels,
                out_channels,
                kernel_size=size,
                padding=size // 2,
                bias=norm == "",
                norm=get_norm(norm, out_channels),
            )
        )
    return nn.Sequential(*layers)


def _twice(channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels, channels // 2, kernel_size=2, stride=2)


def get_vit_lr_decay_rate(name: str, lr_decay_rate: float = 1.0, num_layers: int = 12) -> float:
    """Return the layer-wise learning rate decay factor of a parameter.

    Args:
        name: name of a parameter; those outside of a ViT at "backbone" have factor 1.
        lr_decay_rate: factor from each block to the one below.
        num_layers: number of blocks of the ViT.
    """
    # Everything outside of the ViT learns at the full rate.
    layer = num_layers + 1
    if name.startswith("backbone"):
        if ".pos_embed" in name or ".patch_embed" in name:
            layer = 0
        elif ".blocks." in name and ".residual." not in name:
            layer = int(name.partition(".blocks.")[2].split(".")[0]) + 1
    return lr_decay_rate ** (num_layers + 1 - layer)
