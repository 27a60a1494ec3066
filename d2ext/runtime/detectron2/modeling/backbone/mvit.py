"""Multiscale vision transformers (MViTv2: Li et al. 2021, arXiv:2112.01526)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth

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

__all__ = ["MViT"]

Layer = Callable[..., nn.Module]


def attention_pool(x: Tensor, pool: nn.Module | None, norm: nn.Module | None = None) -> Tensor:
    """Pool (B, H, W, C) to (B, H', W', C) by a layer on (B, C, H, W), then normalise."""
    if pool is None:
        return x
    x = pool(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return x if norm is None else norm(x)


class MultiScaleAttention(nn.Module):
    """Multi-head attention with pooled queries, keys and values (section 4.1).

    Args:
        dim, dim_out: channels of input and output.
        num_heads: number of attention heads.
        qkv_bias: add a bias to queries, keys and values.
        norm_layer: constructor of the norms after the pooling.
        pool_kernel: kernel of the pooling, which is a depthwise convolution.
        stride_q, stride_kv: pooling strides of queries, and of keys and values.
        residual_pooling: add the pooled queries to the result.
        window_size: side of a window in tokens before the pooling; 0: no windows.
        use_rel_pos, rel_pos_zero_init: as in `vit.Attention`.
        input_size: (height, width) in tokens for which relative positions are created.
    """

    def __init__(
        self,
        dim: int,
        dim_out: int,
        num_heads: int,
        qkv_bias: bool = True,
        norm_layer: Layer = nn.LayerNorm,
        pool_kernel: tuple[int, int] = (3, 3),
        stride_q: int = 1,
        stride_kv: int = 1,
        residual_pooling: bool = True,
        window_size: int = 0,
        use_rel_pos: bool = False,
        rel_pos_zero_init: bool = True,
        input_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        channels = dim_out // num_heads
        self.scale = channels**-0.5
        self.qkv = nn.Linear(dim, 3 * dim_out, bias=qkv_bias)
        self.proj = nn.Linear(dim_out, dim_out)
        for name, stride in (("q", stride_q), ("k", stride_kv), ("v", stride_kv)):
            self.add_module(f"pool_{name}", _depthwise(channels, pool_kernel, stride))
            self.add_module(f"norm_{name}", norm_layer(channels))
        self.window_size = window_size
        if window_size:
            self.q_win_size = window_size // stride_q
            self.kv_win_size = window_size // stride_kv
        self.residual_pooling = residual_pooling
        self.use_rel_pos = use_rel_pos
        if use_rel_pos:
            self._add_positions(input_size, max(stride_q, 1), stride_kv, rel_pos_zero_init)

    def _add_positions(self, size: Any, stride_q: int, stride_kv: int, zero: bool) -> None:
        if size is None or size[0] != size[1]:
            raise ValueError(f"relative positions need a square input_size, got {size}")
        side = max(size[0] // stride_q, size[0] // stride_kv)
        channels = round(self.scale**-2)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, channels))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, channels))
        if not zero:
            nn.init.trunc_normal_(self.rel_pos_h, std=0.02)
            nn.init.trunc_normal_(self.rel_pos_w, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, dim) to (B, H / stride_q, W / stride_q, dim_out)."""
        batch = x.shape[0]
        qkv = self.qkv(x).unflatten(3, (3, self.num_heads, -1))
        # Three tensors (B * heads, H, W, channels): each head is pooled like an image.
        heads = qkv.permute(3, 0, 4, 1, 2, 5).flatten(1, 2).unbind(0)
        q, k, v = (
            attention_pool(part, getattr(self, f"pool_{name}"), getattr(self, f"norm_{name}"))
            for name, part in zip("qkv", heads, strict=True)
        )
        out = self._attend(q, k, v)
        if self.residual_pooling:
            out = out + q
        out = out.unflatten(0, (batch, self.num_heads)).permute(0, 2, 3, 1, 4)
        return self.proj(out.flatten(3))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        size = (q.shape[1], q.shape[2])
        padded = size
        if self.window_size:
            q, padded = window_partition(q, self.q_win_size)
            k, _ = window_partition(k, self.kv_win_size)
            v, _ = window_partition(v, self.kv_win_size)
        q_size, k_size = (q.shape[1], q.shape[2]), (k.shape[1], k.shape[2])
        q, k, v = (part.flatten(1, 2) for part in (q, k, v))
        scores = (q * self.scale) @ k.transpose(1, 2)
        if self.use_rel_pos:
            scores = add_decomposed_rel_pos(
                scores, q, self.rel_pos_h, self.rel_pos_w, q_size, k_size
            )
        out = (scores.softmax(dim=-1) @ v).unflatten(1, q_size)
        if self.window_size:
            out = window_unpartition(out, self.q_win_size, padded, size)
        return out


def _depthwise(channels: int, kernel: tuple[int, int], stride: int) -> nn.Conv2d:
    return nn.Conv2d(
        channels,
        channels,
        kernel,
        stride=stride,
        padding=(kernel[0] // 2, kernel[1] // 2),
        groups=channels,
        bias=False,
    )


class MultiScaleBlock(nn.Module):
    """Transformer block of pooling attention and an MLP.

    Args:
        mlp_ratio: hidden channels of the MLP, in multiples of `dim_out`.
        drop_path: stochastic depth: probability of dropping a branch in training.
        norm_layer, act_layer: constructors of the norms and of the MLP's activation.
        qkv_pool_kernel: `pool_kernel` of `MultiScaleAttention`; the others keep their names.
    """

    def __init__(
        self,
        dim: int,
        dim_out: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path: float = 0.0,
        norm_layer: Layer = nn.LayerNorm,
        act_layer: Any = nn.GELU,
        qkv_pool_kernel: tuple[int, int] = (3, 3),
        stride_q: int = 1,
        stride_kv: int = 1,
        residual_pooling: bool = True,
        window_size: int = 0,
        use_rel_pos: bool = False,
        rel_pos_zero_init: bool = True,
        input_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = norm_layer(dim)
        self.attn = MultiScaleAttention(
            dim,
            dim_out,
            num_heads,
            qkv_bias,
            norm_layer,
            qkv_pool_kernel,
            stride_q,
            stride_kv,
            residual_pooling,
            window_size,
            use_rel_pos,
            rel_pos_zero_init,
            input_size,
        )
        self.drop_path = StochasticDepth(drop_path, "row")
        self.norm2 = norm_layer(dim_out)
        hidden = int(dim_out * mlp_ratio)
        self.mlp = Mlp(dim_out, hidden_features=hidden, act_layer=act_layer)
        self.proj: nn.Module | None = nn.Linear(dim, dim_out) if dim != dim_out else None
        self.pool_skip: nn.Module | None = None
        if stride_q > 1:
            # Overlapping pooling, as published.
            kernel = stride_q + 1
            self.pool_skip = nn.MaxPool2d(kernel, stride=stride_q, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, dim) to (B, H / stride_q, W / stride_q, dim_out)."""
        normed = self.norm1(x)
        # MViTv2 projects the normalised input where the channels change.
        shortcut = x if self.proj is None else self.proj(normed)
        x = attention_pool(shortcut, self.pool_skip) + self.drop_path(self.attn(normed))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class MViT(Backbone):
    """MViTv2 with feature maps "scale2" to "scale5" at strides 4, 8, 16 and 32.

    Args:
        img_size: side of the images in pixels for which relative positions are created.
        patch_kernel, patch_stride, patch_padding: options of the first convolution.
        in_chans: channels of the image.
        embed_dim, num_heads: of the first stage; doubled in each further stage.
        depth: number of blocks.
        last_block_indexes: last block of each of the four stages; except in the first stage it
            attends globally.
        qkv_pool_kernel: as in `MultiScaleBlock`, like all options that are not listed here.
        adaptive_kv_stride: stride of keys and values in the first stage; halved in each further
            stage.
        adaptive_window_size: side of a window in the first stage, in tokens; halved likewise.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0.
        use_abs_pos, use_rel_pos, rel_pos_zero_init: kinds of position embeddings.
        use_act_checkpoint: activation (gradient) checkpointing of the blocks, to save memory.
        pretrain_img_size, pretrain_use_cls_token: of the pretrained absolute positions.
        out_features: names of the maps to return.
    """

    def __init__(
        self,
        img_size: int = 224,
        patch_kernel: tuple[int, int] = (7, 7),
        patch_stride: tuple[int, int] = (4, 4),
        patch_padding: tuple[int, int] = (3, 3),
        in_chans: int = 3,
        embed_dim: int = 96,
        depth: int = 16,
        num_heads: int = 1,
        last_block_indexes: Sequence[int] = (0, 2, 11, 15),
        qkv_pool_kernel: tuple[int, int] = (3, 3),
        adaptive_kv_stride: int = 4,
        adaptive_window_size: int = 56,
        residual_pooling: bool = True,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        norm_layer: Layer = nn.LayerNorm,
        act_layer: Any = nn.GELU,
        use_abs_pos: bool = False,
        use_rel_pos: bool = True,
        rel_pos_zero_init: bool = True,
        use_act_checkpoint: bool = False,
        pretrain_img_size: int = 224,
        pretrain_use_cls_token: bool = True,
        out_features: Sequence[str] = ("scale2", "scale3", "scale4", "scale5"),
    ) -> None:
        super().__init__()
        self.pretrain_use_cls_token = pretrain_use_cls_token
        self.use_act_checkpoint = use_act_checkpoint
        self.patch_embed = PatchEmbed(
            patch_kernel, patch_stride, patch_padding, in_chans=in_chans, embed_dim=embed_dim
        )
        self.pos_embed: nn.Parameter | None = None
        if use_abs_pos:
            self.pos_embed = position_embedding(
                pretrain_img_size, patch_stride[0], embed_dim, pretrain_use_cls_token
            )
        self._last_block_indexes = tuple(last_block_indexes)
        self._out_features = list(out_features)
        self._out_feature_strides, self._out_feature_channels = {}, {}
        self.blocks = nn.ModuleList()
        dim, stride = embed_dim, patch_stride[0]
        side, kv_stride, window = img_size // stride, adaptive_kv_stride, adaptive_window_size
        stage = 0
        for index, rate in enumerate(torch.linspace(0, drop_path_rate, depth).tolist()):
            first = stage > 0 and index == last_block_indexes[stage - 1] + 1
            dim_out = 2 * dim if first else dim
            # The last block of a stage attends globally, with keys and values pooled more strongly.
            whole = stage > 0 and index == last_block_indexes[stage]
            coarser = 2 if whole and stage < 3 else 1
            self.blocks.append(
                MultiScaleBlock(
                    dim,
                    dim_out,
                    num_heads=num_heads * 2**stage,
                    mlp_ratio=mlp_ratio,
                    qkv_bias=qkv_bias,
                    drop_path=rate,
                    norm_layer=norm_layer,
                    act_layer=act_layer,
                    qkv_pool_kernel=qkv_pool_kernel,
                    stride_q=2 if first else 1,
                    stride_kv=kv_stride * coarser,
                    residual_pooling=residual_pooling,
                    window_size=0 if whole else window,
                    use_rel_pos=use_rel_pos,
                    rel_pos_zero_init=rel_pos_zero_init,
                    input_size=(side, side),
                )
            )
            dim = dim_out
            if first:
                side, window, stride = side // 2, window // 2, stride * 2
            if index in last_block_indexes:
                self._end_stage(f"scale{stage + 2}", dim, stride, norm_layer)
                stage += 1
                kv_stride = max(kv_stride // 2, 1)
        self.apply(init_transformer)

    def _end_stage(self, name: str, channels: int, stride: int, norm_layer: Layer) -> None:
        if name in self._out_features:
            self._out_feature_channels[name] = channels
            self._out_feature_strides[name] = stride
            self.add_module(f"{name}_norm", norm_layer(channels))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map images (B, in_chans, H, W) to name: (B, C, H / stride, W / stride)."""
        x = self.patch_embed(x)
        if self.pos_embed is not None:
            size = (x.shape[1], x.shape[2])
            x = x + get_abs_pos(self.pos_embed, self.pretrain_use_cls_token, size)
        features = {}
        for index, block in enumerate(self.blocks):
            if self.use_act_checkpoint and self.training:
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
            if index in self._last_block_indexes:
                name = f"scale{self._last_block_indexes.index(index) + 2}"
                if name in self._out_features:
                    features[name] = getattr(self, f"{name}_norm")(x).permute(0, 3, 1, 2)
        return features
