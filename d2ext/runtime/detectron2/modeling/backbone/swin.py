"""Swin Transformer: attention in windows that shift by half of one (Liu et al. 2021,
arXiv:2103.14030)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .backbone import Backbone
from .utils import init_transformer, window_partition, window_unpartition

__all__ = ["SwinTransformer"]

Layer = Callable[..., nn.Module]


class Mlp(nn.Module):
    """Two linear layers around an activation; dropout behind each."""

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        act_layer: Layer = nn.GELU,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        hidden = hidden_features or in_features
        self.fc1 = nn.Linear(in_features, hidden)
        self.act = act_layer()
        self.fc2 = nn.Linear(hidden, out_features or in_features)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


def window_reverse(windows: Tensor, window_size: int, H: int, W: int) -> Tensor:
    """Windows (B * windows, window_size, window_size, C) -> the map (B, H, W, C)."""
    return window_unpartition(windows, window_size, (H, W), (H, W))


class WindowAttention(nn.Module):
    """Attention in a window, with a bias for every relative position (equation 4).

    Args:
        dim: channels.
        window_size: (height, width) in tokens.
        num_heads: attention heads.
        qkv_bias: queries, keys and values have a bias.
        qk_scale: factor of the scores; by default one over the root of a head's channels.
        attn_drop, proj_drop: dropout of the weights and of the result.
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
        self.register_buffer("relative_position_index", _position_index(height, width))
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B * windows, tokens, dim) -> the same shape.

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
    """The row of the bias table for each query and key of a window, (tokens, tokens)."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    y, x = y.flatten(), x.flatten()
    rows = y[:, None] - y + height - 1
    return rows * (2 * width - 1) + x[:, None] - x + width - 1


class SwinTransformerBlock(nn.Module):
    """Attention in windows and an MLP, each on its normalised input and added to it.

    Args:
        dim, num_heads, qkv_bias, qk_scale, attn_drop: as `WindowAttention`'s.
        window_size, shift_size: side of a window and how far windows are moved, in tokens.
        mlp_ratio: hidden channels of the MLP, in multiples of `dim`.
        drop: dropout of both results.
        drop_path: probability that a branch is left out in training.
        act_layer, norm_layer: make the MLP's activation and the norms.
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
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.norm2 = norm_layer(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), act_layer=act_layer, drop=drop)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, dim) -> the same shape."""
        x = x + self.drop_path(self._attend(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _attend(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        side, shift = self.window_size, self.shift_size
        x = F.pad(x, (0, 0, 0, -width % side, 0, -height % side))
        mask = _shift_mask(x.shape[1], x.shape[2], side, shift).to(x) if shift else None
        windows, padded = window_partition(x.roll((-shift, -shift), dims=(1, 2)), side)
        windows = self.attn(windows.flatten(1, 2), mask).unflatten(1, (side, side))
        x = window_reverse(windows, side, *padded).roll((shift, shift), dims=(1, 2))
        return x[:, :height, :width]


def _shift_mask(height: int, width: int, window: int, shift: int) -> Tensor:
    """(windows, tokens, tokens): -100 between tokens that only the shift brought together."""

    def bands(side: int) -> Tensor:
        place = torch.arange(side)
        return (place >= side - window).long() + (place >= side - shift).long()

    regions = 3 * bands(height)[:, None] + bands(width)
    cells = window_partition(regions[None, :, :, None], window)[0].flatten(1)
    return -100.0 * (cells[:, :, None] != cells[:, None, :])


class PatchMerging(nn.Module):
    """Half of the resolution, twice the channels."""

    def __init__(self, dim: int, norm_layer: Layer = nn.LayerNorm) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = norm_layer(4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, dim) -> (B, ceil(H / 2), ceil(W / 2), 2 * dim)."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        # The four tokens of a cell, column by column.
        cells = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(cells, dim=3)))


class BasicLayer(nn.Module):
    """A stage: `depth` blocks, every other one shifted, and the way down.

    Args:
        drop_path: of all blocks, or of each.
        downsample: makes the way to the next stage; None for none.
        use_checkpoint: compute blocks twice in training, to save memory.
        The others are `SwinTransformerBlock`'s.
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
        """(B, H, W, dim) -> the same shape, and what the next stage gets."""
        for block in self.blocks:
            if self.use_checkpoint and self.training:
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return x, x if self.downsample is None else self.downsample(x)


class PatchEmbed(nn.Module):
    """Patches to tokens: (B, C, H, W), padded -> (B, ceil(H / patch), ceil(W / patch), dim)."""

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
    """Feature maps "p0" to "p3" at strides 4, 8, 16 and 32, each with its own norm.

    Args:
        pretrain_img_size: side of the images that absolute positions are made for, in pixels.
        patch_size: side of a patch, in pixels.
        in_chans: channels of the image.
        embed_dim: channels of the first stage; doubled from each to the next.
        depths, num_heads: of each stage.
        drop_rate, drop_path_rate: dropout, and stochastic depth of the last block; it grows
            linearly from 0 at the first.
        ape: add absolute positions.
        patch_norm: normalise the patches.
        out_indices: the stages to return.
        frozen_stages: from 0 on the patches are not trained, from 1 on absolute positions, and one
            stage less than this.
        use_checkpoint: compute blocks twice in training, to save memory.
        The others are `SwinTransformerBlock`'s.
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
        return 32

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (B, in_chans, H, W) -> "p<i>": (B, C, ceil(H / stride), ceil(W / stride))."""
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
