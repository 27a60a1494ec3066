"""Parts shared by the vision transformers: patches, windows, position embeddings."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "Mlp",
    "PatchEmbed",
    "add_decomposed_rel_pos",
    "get_abs_pos",
    "get_rel_pos",
    "window_partition",
    "window_unpartition",
]


class Mlp(nn.Module):
    """MLP of two linear layers, each followed by dropout."""

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        act_layer: Callable[..., nn.Module] = nn.GELU,
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


def window_partition(x: Tensor, window_size: int) -> tuple[Tensor, tuple[int, int]]:
    """Partition a map into square windows, zero-padded at the bottom and on the right.

    Args:
        x: (B, H, W, C).
        window_size: side of a window, in tokens.

    Returns:
        (B * windows, window_size, window_size, C), and the padded height and width.
    """
    height, width = x.shape[1:3]
    x = F.pad(x, (0, 0, 0, -width % window_size, 0, -height % window_size))
    padded = (x.shape[1], x.shape[2])
    cells = x.unflatten(2, (-1, window_size)).unflatten(1, (-1, window_size))
    return cells.transpose(2, 3).flatten(0, 2), padded


def window_unpartition(
    windows: Tensor, window_size: int, pad_hw: tuple[int, int], hw: tuple[int, int]
) -> Tensor:
    """Merge windows into a map without the padding; the inverse of `window_partition`.

    Args:
        pad_hw: height and width with padding.
        hw: height and width, (H, W).

    Returns:
        (B, H, W, C).
    """
    rows, columns = pad_hw[0] // window_size, pad_hw[1] // window_size
    cells = windows.unflatten(0, (-1, rows, columns)).transpose(2, 3)
    return cells.flatten(3, 4).flatten(1, 2)[:, : hw[0], : hw[1]].contiguous()


def get_rel_pos(q_size: int, k_size: int, rel_pos: Tensor) -> Tensor:
    """Return the relative position embedding of every query-key pair along one axis.

    Args:
        q_size, k_size: numbers of queries and keys, which cover the same length.
        rel_pos: (L, C), one embedding per distance; interpolated if L differs.

    Returns:
        (q_size, k_size, C).
    """
    distances = 2 * max(q_size, k_size) - 1
    if rel_pos.shape[0] != distances:
        rel_pos = F.interpolate(rel_pos.T[None], size=distances, mode="linear")[0].T
    # In steps of the finer of the two maps.
    q_step, k_step = max(k_size / q_size, 1.0), max(q_size / k_size, 1.0)
    device = rel_pos.device
    q = torch.arange(q_size, device=device)[:, None] * q_step
    k = torch.arange(k_size, device=device)[None] * k_step
    # The smallest distance is negative: shift it to index 0.
    return rel_pos[(q - k + (k_size - 1) * k_step).long()]


def add_decomposed_rel_pos(
    attn: Tensor,
    q: Tensor,
    rel_pos_h: Tensor,
    rel_pos_w: Tensor,
    q_size: tuple[int, int],
    k_size: tuple[int, int],
) -> Tensor:
    """Add decomposed relative position embeddings to the attention scores.

    Each query contributes one term for the vertical and one for the horizontal distance to each key
    (arXiv:2112.01526, section 4.1).

    Args:
        attn: (B, queries, keys) scores.
        q: (B, queries, C).
        rel_pos_h, rel_pos_w: embeddings, see `get_rel_pos`.
        q_size, k_size: height and width of the maps of queries and keys.
    """
    grid = q.unflatten(1, q_size)
    vertical = torch.einsum("bhwc,hkc->bhwk", grid, get_rel_pos(q_size[0], k_size[0], rel_pos_h))
    horizontal = torch.einsum("bhwc,wkc->bhwk", grid, get_rel_pos(q_size[1], k_size[1], rel_pos_w))
    bias = vertical[..., :, None] + horizontal[..., None, :]
    return (attn.view_as(bias) + bias).view_as(attn)


def get_abs_pos(abs_pos: Tensor, has_cls_token: bool, hw: tuple[int, int]) -> Tensor:
    """Return absolute position embeddings interpolated to the size of a map.

    Args:
        abs_pos: (1, N, C) embeddings of a square map.
        has_cls_token: drop the first embedding, which belongs to the class token.
        hw: target height and width.

    Returns:
        (1, height, width, C).
    """
    if has_cls_token:
        # The class token comes first and has no position.
        abs_pos = abs_pos[:, 1:]
    side = math.isqrt(abs_pos.shape[1])
    if side * side != abs_pos.shape[1]:
        raise ValueError(f"{abs_pos.shape[1]} positions are not those of a square")
    square = abs_pos.unflatten(1, (side, side))
    if (side, side) == tuple(hw):
        return square
    channels_first = square.permute(0, 3, 1, 2)
    resampled = F.interpolate(channels_first, size=hw, mode="bicubic", align_corners=False)
    return resampled.permute(0, 2, 3, 1)


class PatchEmbed(nn.Module):
    """Patch embedding by one convolution: (B, C, H, W) -> (B, H', W', embed_dim)."""

    def __init__(
        self,
        kernel_size: tuple[int, int] = (16, 16),
        stride: tuple[int, int] = (16, 16),
        padding: tuple[int, int] = (0, 0),
        in_chans: int = 3,
        embed_dim: int = 768,
    ) -> None:
        super().__init__()
        self.proj = nn.Conv2d(
            in_chans, embed_dim, kernel_size=kernel_size, stride=stride, padding=padding
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).permute(0, 2, 3, 1)


def init_transformer(module: nn.Module) -> None:
    """Initialise one module as in vision transformers."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)


def position_embedding(img_size: int, patch: int, channels: int, cls_token: bool) -> nn.Parameter:
    """Create (1, N, channels) for the patches of a square image, plus one for a class token."""
    count = (img_size // patch) ** 2 + int(cls_token)
    embedding = nn.Parameter(torch.zeros(1, count, channels))
    nn.init.trunc_normal_(embedding, std=0.02)
    return embedding
