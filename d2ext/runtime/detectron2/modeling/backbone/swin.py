"""Swin Transformer: attention in shifted windows (Liu et al. 2021, arXiv:2103.14030)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth

from .backbone import Backbone
from .utils import Mlp, init_transformer, window_partition, window_unpartition

__all__ = ["SwinTransformer"]

Layer = Callable[..., nn.Module]


def window_reverse(windows: Tensor, window_size: int, H: int, W: int) -> Tensor:
    """Merge windows (B * windows, window_size, window_size, C) to the map (B, H, W, C)."""
    return window_unpartition(windows, window_size, (H, W), (H, W))


class WindowAttention(nn.Module):
    """Multi-head attention in a window with a relative position bias (equation 4).

    Args:
        dim: channels.
        window_size: (height, width) in tokens.
        num_heads: number of attention heads.
        qkv_bias: add a bias to queries, keys and values.
        qk_scale: scale of the scores; by default 1 / sqrt(channels of a head).
        attn_drop, proj_drop: dropout of the attention weights and of the output.
    """

    relative_position_index: Tensor

    def __init__(
        self,
        dim: int,
        window_size: tuple[int, int],
        num_heads: int,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_heads, self.window_size = num_heads, window_size
        self.scale = qk_scale or (dim // num_heads) ** -0.5
        height, width = window_size
        positions = (2 * height - 1) * (2 * width - 1)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(positions, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        # In the state dict, because the published checkpoints have it.
        self.register_buffer("relative_position_index", _position_index(height, width))
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend within each window: (B * windows, tokens, dim) to the same shape.

        Args:
            mask: (windows, tokens, tokens), added to the scores.
        """
        qkv = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        scores = (q * self.scale) @ k.transpose(2, 3) + self._bias()
        if mask is not None:
            windows = scores.unflatten(0, (-1, mask.shape[0]))
            scores = (windows + mask[:, None]).flatten(0, 1)
        weights = self.attn_drop(scores.softmax(dim=-1))
        return self.proj_drop(self.proj((weights @ v).transpose(1, 2).flatten(2)))

    def _bias(self) -> Tensor:
        bias = self.relative_position_bias_table[self.relative_position_index]
        return bias.permute(2, 0, 1)[None]  # (1, heads, tokens, tokens)


def _position_index(height: int, width: int) -> Tensor:
    """Index the rows of the bias table by query and key of a window: (tokens, tokens)."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    y, x = y.flatten(), x.flatten()
    # Differences are in [1 - size, size - 1]: shift them to start at 0.
    rows = y[:, None] - y + height - 1
    return rows * (2 * width - 1) + x[:, None] - x + width - 1


class SwinTransformerBlock(nn.Module):
    """Swin block: window attention and an MLP, both pre-normalised and residual.

    Args:
        dim, num_heads, qkv_bias, qk_scale, attn_drop: as in `WindowAttention`.
        window_size, shift_size: side of a window and its shift, in tokens.
        mlp_ratio: hidden channels of the MLP, in multiples of `dim`.
        drop: dropout of both outputs.
        drop_path: stochastic depth: probability of dropping a branch in training.
        act_layer, norm_layer: constructors of the MLP's activation and of the norms.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: int = 7,
        shift_size: int = 0,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop: float = 0.0,
        attn_drop: float = 0.0,
        drop_path: float = 0.0,
        act_layer: Layer = nn.GELU,
        norm_layer: Layer = nn.LayerNorm,
    ) -> None:
        super().__init__()
        if not 0 <= shift_size < window_size:
            raise ValueError(f"a shift is within a window of {window_size}, got {shift_size}")
        self.window_size, self.shift_size = window_size, shift_size
        self.norm1 = norm_layer(dim)
        self.attn = WindowAttention(
            dim, (window_size, window_size), num_heads, qkv_bias, qk_scale, attn_drop, drop
        )
        self.drop_path = StochasticDepth(drop_path, "row")
        self.norm2 = norm_layer(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), act_layer=act_layer, drop=drop)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, dim) to the same shape."""
        x = x + self.drop_path(self._attend(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _attend(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        side, shift = self.window_size, self.shift_size
        # `-width % side` is what is missing to the next multiple.
        x = F.pad(x, (0, 0, 0, -width % side, 0, -height % side))
        mask = _shift_mask(x.shape[1], x.shape[2], side, shift).to(x) if shift else None
        windows, padded = window_partition(x.roll((-shift, -shift), dims=(1, 2)), side)
        windows = self.attn(windows.flatten(1, 2), mask).unflatten(1, (side, side))
        x = window_reverse(windows, side, *padded).roll((shift, shift), dims=(1, 2))
        return x[:, :height, :width]


def _shift_mask(height: int, width: int, window: int, shift: int) -> Tensor:
    """Build the (windows, tokens, tokens) mask: -100 between tokens that only the shift joins."""

    def bands(side: int) -> Tensor:
        place = torch.arange(side)
        return (place >= side - window).long() + (place >= side - shift).long()

    regions = 3 * bands(height)[:, None] + bands(width)
    cells = window_partition(regions[None, :, :, None], window)[0].flatten(1)
    # -100 instead of -inf: as published, and without NaN in half precision.
    return -100.0 * (cells[:, :, None] != cells[:, None, :])


class PatchMerging(nn.Module):
    """Patch merging: half the resolution, twice the channels."""

    def __init__(self, dim: int, norm_layer: Layer = nn.LayerNorm) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = norm_layer(4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, dim) to (B, ceil(H / 2), ceil(W / 2), 2 * dim)."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        # The four tokens of a 2x2 cell in column-major order, which checkpoints assume.
        cells = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(cells, dim=3)))


class BasicLayer(nn.Module):
    """A stage: `depth` blocks, every other one shifted, then downsampling.

    Args:
        drop_path: stochastic depth of all blocks, or of each.
        downsample: constructor of the downsampling layer; None for none.
        use_checkpoint: gradient checkpointing of the blocks, to save memory.
        others: as in `SwinTransformerBlock`.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        num_heads: int,
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop: float = 0.0,
        attn_drop: float = 0.0,
        drop_path: float | Sequence[float] = 0.0,
        norm_layer: Layer = nn.LayerNorm,
        downsample: Layer | None = None,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.use_checkpoint = use_checkpoint
        rates = [drop_path] * depth if isinstance(drop_path, float | int) else drop_path
        self.blocks = nn.ModuleList(
            SwinTransformerBlock(
                dim,
                num_heads,
                window_size=window_size,
                # Alternately regular and shifted windows (section 3.2).
                shift_size=window_size // 2 if index % 2 else 0,
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                qk_scale=qk_scale,
                drop=drop,
                attn_drop=attn_drop,
                drop_path=rate,
                norm_layer=norm_layer,
            )
            for index, rate in enumerate(rates)
        )
        self.downsample = None if downsample is None else downsample(dim, norm_layer=norm_layer)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the stage's output, (B, H, W, dim) like the input, and the next stage's input."""
        for block in self.blocks:
            if self.use_checkpoint and self.training:
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return x, x if self.downsample is None else self.downsample(x)


class PatchEmbed(nn.Module):
    """Patch embedding: (B, C, H, W), padded, to (B, ceil(H / patch), ceil(W / patch), dim)."""

    def __init__(
        self,
        patch_size: int = 4,
        in_chans: int = 3,
        embed_dim: int = 96,
        norm_layer: Layer | None = None,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size=patch_size, stride=patch_size)
        self.norm = None if norm_layer is None else norm_layer(embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        x = self.proj(F.pad(x, (0, -width % self.patch_size, 0, -height % self.patch_size)))
        x = x.permute(0, 2, 3, 1)
        return x if self.norm is None else self.norm(x)


class SwinTransformer(Backbone):
    """Swin Transformer with feature maps "p0" to "p3" at strides 4, 8, 16 and 32, each normalised.

    Args:
        pretrain_img_size: side of the images in pixels for which absolute positions are created.
        patch_size: side of a patch, in pixels.
        in_chans: channels of the image.
        embed_dim: channels of the first stage; doubled in each further stage.
        depths, num_heads: of each stage.
        drop_rate, drop_path_rate: dropout, and stochastic depth of the last block; it grows
            linearly from 0.
        ape: add absolute position embeddings.
        patch_norm: normalise the patch embeddings.
        out_indices: indices of the stages to return.
        frozen_stages: from 0 on the patch embedding is frozen, from 1 on also the absolute
            positions, and from 2 on the first `frozen_stages - 1` stages.
        use_checkpoint: gradient checkpointing of the blocks, to save memory.
        others: as in `SwinTransformerBlock`.
    """

    def __init__(
        self,
        pretrain_img_size: int = 224,
        patch_size: int = 4,
        in_chans: int = 3,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.2,
        norm_layer: Layer = nn.LayerNorm,
        ape: bool = False,
        patch_norm: bool = True,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.ape, self.frozen_stages = ape, frozen_stages
        self.patch_embed = PatchEmbed(
            patch_size, in_chans, embed_dim, norm_layer if patch_norm else None
        )
        if ape:
            side = pretrain_img_size // patch_size
            self.absolute_pos_embed = nn.Parameter(torch.zeros(1, embed_dim, side, side))
            nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)
        self.pos_drop = nn.Dropout(drop_rate)
        self.num_layers = len(depths)
        self.num_features = [embed_dim * 2**index for index in range(self.num_layers)]
        rates = torch.linspace(0, drop_path_rate, sum(depths)).tolist()
        starts = [0, *accumulate(depths)]
        self.layers = nn.ModuleList(
            BasicLayer(
                dim,
                depths[index],
                num_heads[index],
                window_size=window_size,
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                qk_scale=qk_scale,
                drop=drop_rate,
                attn_drop=attn_drop_rate,
                drop_path=rates[starts[index] : starts[index + 1]],
                norm_layer=norm_layer,
                downsample=PatchMerging if index + 1 < self.num_layers else None,
                use_checkpoint=use_checkpoint,
            )
            for index, dim in enumerate(self.num_features)
        )
        for index in out_indices:
            self.add_module(f"norm{index}", norm_layer(self.num_features[index]))
        self._out_features = [f"p{index}" for index in out_indices]
        self._out_feature_channels = {f"p{i}": self.num_features[i] for i in out_indices}
        self._out_feature_strides = {f"p{i}": patch_size * 2**i for i in out_indices}
        self.apply(init_transformer)
        self._freeze_stages()

    def _freeze_stages(self) -> None:
        frozen: list[Any] = [self.patch_embed] if self.frozen_stages >= 0 else []
        frozen += self.layers[: max(self.frozen_stages - 1, 0)]
        if self.frozen_stages >= 1 and self.ape:
            self.absolute_pos_embed.requires_grad_(False)
        for module in frozen:
            module.eval().requires_grad_(False)

    @property
    def size_divisibility(self) -> int:
        # The stride of the last level; smaller images are padded inside as well.
        return 32

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map images (B, in_chans, H, W) to "p<i>": (B, C, ceil(H / stride), ceil(W / stride))."""
        x = self.patch_embed(x)
        if self.ape:
            size = x.shape[1:3]
            positions = F.interpolate(self.absolute_pos_embed, size=size, mode="bicubic")
            x = x + positions.permute(0, 2, 3, 1)
        x = self.pos_drop(x)
        features = {}
        for index, layer in enumerate(self.layers):
            found, x = layer(x)
            if f"p{index}" in self._out_features:
                norm = getattr(self, f"norm{index}")
                features[f"p{index}"] = norm(found).permute(0, 3, 1, 2).contiguous()
        return features
