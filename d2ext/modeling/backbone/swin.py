"""Swin Transformer: attention inside windows that shift by half a window from block to block.

Source: Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", 2021,
arXiv:2103.14030. Parameters are named as in the authors' checkpoints.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth

from d2ext.modeling.backbone.freezing import FreezableStages, configured_freeze_at, stages_to_freeze
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone

PATCH_SIZE = 4


@BACKBONE_REGISTRY.register()
class SwinTransformer(FreezableStages, Backbone):
    """Feature maps "stage2" to "stage5" at strides 4, 8, 16 and 32, each with its own LayerNorm.

    Args:
        in_channels: channels of the image.
        embed_dim: channels of the first stage; every further one has twice as many.
        depths: blocks per stage.
        num_heads: attention heads per stage.
        window_size: side of an attention window, in tokens.
        mlp_ratio: hidden channels of the MLP, in multiples of the block's.
        drop_path_rate: stochastic depth of the last block, growing linearly from 0 at the first.
        patch_norm: add a LayerNorm after the patch embedding.
        use_checkpoint: gradient checkpointing: run the blocks again in the backward pass instead of
            keeping what they compute.
        out_features: names of the feature maps to return.
        freeze_at: stages that are not trained: 0 none, 1 the patch embedding, 2 to 5 also the
            stages up to "stage2" to "stage5", patch merging included.
    """

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        embed_dim: int,
        depths: Sequence[int],
        num_heads: Sequence[int],
        window_size: int,
        mlp_ratio: float,
        drop_path_rate: float,
        patch_norm: bool,
        use_checkpoint: bool,
        out_features: Sequence[str],
        freeze_at: int = 0,
    ) -> None:
        super().__init__()
        names = [f"stage{i + 2}" for i in range(len(depths))]
        unknown = sorted(set(out_features) - set(names))
        if unknown:
            raise ValueError(f"SwinTransformer has no output {unknown[0]!r}; it has {names}")
        self.out_features = tuple(name for name in names if name in out_features)
        if not self.out_features:
            raise ValueError(f"SwinTransformer needs outputs: some of {names}")
        # Later stages are not built: in several processes, parameters without gradients are errors.
        names = names[: names.index(self.out_features[-1]) + 1]
        self.channels = {name: embed_dim * 2**i for i, name in enumerate(names)}
        self.strides = {name: PATCH_SIZE * 2**i for i, name in enumerate(names)}
        self.patch_embed = PatchEmbed(in_channels, embed_dim, patch_norm)
        drop_paths = torch.linspace(0, drop_path_rate, sum(depths)).tolist()
        self.layers = nn.ModuleList(
            SwinStage(
                dim=self.channels[name],
                num_heads=num_heads[i],
                window_size=window_size,
                mlp_ratio=mlp_ratio,
                drop_paths=drop_paths[sum(depths[:i]) : sum(depths[: i + 1])],
                use_checkpoint=use_checkpoint,
                downsample=i + 1 < len(names),
            )
            for i, name in enumerate(names)
        )
        for i, name in enumerate(names):
            if name in self.out_features:
                self.add_module(f"norm{i}", nn.LayerNorm(self.channels[name]))
        self.apply(_init_weights)
        self.freeze_first(self._untrained(freeze_at))

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        options = {key.lower(): value for key, value in cfg.MODEL.SWIN.items()}
        options["freeze_at"] = configured_freeze_at(cfg)
        return {"in_channels": input_shape.channels, **options}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the feature maps of (B, in_channels, H, W) images of any size.

        Returns:
            (B, C, ceil(H / stride), ceil(W / stride)) by name.
        """
        features = {}
        tokens = self.patch_embed(images)
        for i, (name, stage) in enumerate(zip(self.channels, self.layers, strict=True)):
            found, tokens = stage(tokens)
            if name in self.out_features:
                features[name] = getattr(self, f"norm{i}")(found).permute(0, 3, 1, 2)
        return features

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {
            name: ShapeSpec(channels=self.channels[name], stride=self.strides[name])
            for name in self.out_features
        }

    def _untrained(self, freeze_at: int) -> list[str]:
        """Return the full names of the parameters that are not trained."""
        # The norms of the maps are trained: ImageNet weights have none.
        count = stages_to_freeze(list(self.strides.values()), freeze_at)
        parts = ["patch_embed.", *(f"layers.{i}." for i in range(count))] if freeze_at else []
        return [name for name, _ in self.named_parameters() if name.startswith(tuple(parts))]


class PatchEmbed(nn.Module):
    """Patch embedding: (B, C, H, W) images to (B, ceil(H / 4), ceil(W / 4), dim) tokens."""

    def __init__(self, in_channels: int, dim: int, norm: bool) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, kernel_size=PATCH_SIZE, stride=PATCH_SIZE)
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        images = F.pad(images, (0, -width % PATCH_SIZE, 0, -height % PATCH_SIZE))
        return self.norm(self.proj(images).permute(0, 2, 3, 1))


class SwinStage(nn.Module):
    """Blocks at one resolution, every other one with shifted windows, then patch merging."""

    def __init__(
        self,
        *,
        dim: int,
        num_heads: int,
        window_size: int,
        mlp_ratio: float,
        drop_paths: Sequence[float],
        use_checkpoint: bool,
        downsample: bool,
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                SwinBlock(
                    dim=dim,
                    num_heads=num_heads,
                    window_size=window_size,
                    shift=window_size // 2 if i % 2 else 0,
                    mlp_ratio=mlp_ratio,
                    drop_path=drop_path,
                    use_checkpoint=use_checkpoint,
                )
                for i, drop_path in enumerate(drop_paths)
            )
        )
        self.downsample = PatchMerging(dim) if downsample else None

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Transform (B, H, W, dim) tokens; return them, and those of the next stage."""
        tokens = self.blocks(tokens)
        return tokens, tokens if self.downsample is None else self.downsample(tokens)


class SwinBlock(nn.Module):
    """Window attention and an MLP, each normalised before and added to its input (figure 3b)."""

    def __init__(
        self,
        *,
        dim: int,
        num_heads: int,
        window_size: int,
        shift: int,
        mlp_ratio: float,
        drop_path: float,
        use_checkpoint: bool,
    ) -> None:
        super().__init__()
        self.use_checkpoint = use_checkpoint
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, num_heads, window_size, shift)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = StochasticDepth(drop_path, mode="row")

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform (B, H, W, dim) tokens."""
        if self.use_checkpoint and self.training and torch.is_grad_enabled():
            return checkpoint(self._transform, tokens, use_reentrant=False)
        return self._transform(tokens)

    def _transform(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens)))
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))


class Mlp(nn.Module):
    """Two linear layers around a GELU."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(tokens)))


class PatchMerging(nn.Module):
    """Patch merging: (B, H, W, dim) tokens to (B, ceil(H / 2), ceil(W / 2), 2 * dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim)

    def forward(self, tokens: Tensor) -> Tensor:
        height, width = tokens.shape[1:3]
        tokens = F.pad(tokens, (0, 0, 0, width % 2, 0, height % 2))
        # The four tokens of a cell follow each other column by column.
        cells = tokens.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2, 5)
        return self.reduction(self.norm(cells.flatten(3)))


class WindowAttention(nn.Module):
    """Multi-head attention inside windows, with relative position bias (equation 4).

    Args:
        dim: channels of a token.
        num_heads: attention heads.
        window_size: side of a window, in tokens.
        shift: tokens by which the windows are displaced, cyclically; attention between tokens
            that are no neighbours in the map is suppressed.
    """

    relative_position_index: Tensor

    def __init__(self, dim: int, num_heads: int, window_size: int, shift: int) -> None:
        super().__init__()
        self.num_heads, self.window_size, self.shift = num_heads, window_size, shift
        self.relative_position_bias_table = nn.Parameter(
            torch.zeros((2 * window_size - 1) ** 2, num_heads)
        )
        self.register_buffer(
            "relative_position_index", relative_positions(window_size), persistent=False
        )
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend inside windows of (B, H, W, dim) tokens."""
        size = (tokens.shape[1], tokens.shape[2])
        # The keys' bias is the same for all keys of a query and leaves the softmax as it is; the
        # values' bias passes through. So padding, a zero before this layer, is a zero after it.
        bias_q, _, bias_v = self.qkv.bias.chunk(3)
        qkv = F.linear(tokens, self.qkv.weight, F.pad(bias_q, (0, 2 * len(bias_q))))
        q, k, v = split_windows(qkv, self.num_heads, self.window_size, self.shift)
        scores = torch.matmul(q, k.transpose(-2, -1))
        scores = torch.add(self.bias(size).to(scores.dtype), scores, alpha=q.shape[-1] ** -0.5)
        attended = torch.matmul(scores.softmax(-1), v)
        attended = join_windows(attended, size, self.window_size, self.shift)
        bias = torch.addmv(self.proj.bias, self.proj.weight, bias_v)
        return F.linear(attended, self.proj.weight, bias)

    def bias(self, size: tuple[int, int]) -> Tensor:
        """Return the bias of the scores: (1 or windows, heads, window_size^2, window_size^2)."""
        table = self.relative_position_bias_table
        tokens = self.window_size**2
        bias = table[self.relative_position_index.flatten()].view(tokens, tokens, -1)
        bias = bias.permute(2, 0, 1)[None]
        if self.shift == 0:
            return bias
        return bias + shift_mask(*size, self.window_size, self.shift, table.device)[:, None]


def relative_positions(window_size: int) -> Tensor:
    """Return the row of the bias table per query and key: (N, N) int64, N = window_size^2.

    Row (dy + w - 1) * (2w - 1) + dx + w - 1 is for a query dy below and dx right of the key.
    """
    y, x = torch.meshgrid(torch.arange(window_size), torch.arange(window_size), indexing="ij")
    y, x = y.flatten(), x.flatten()
    dy, dx = y[:, None] - y + window_size - 1, x[:, None] - x + window_size - 1
    return dy * (2 * window_size - 1) + dx


@lru_cache(maxsize=16)
def shift_mask(
    height: int, width: int, window_size: int, shift: int, device: torch.device
) -> Tensor:
    """Compute the attention mask of shifted windows: -100 between tokens that are no neighbours.

    Returns:
        (windows, window_size^2, window_size^2) float32.
    """
    bands = []
    for side in (height, width):
        padded = side + -side % window_size
        place = torch.arange(padded)
        bands.append((place >= padded - window_size).int() + (place >= padded - shift).int())
    regions = 3 * bands[0][:, None] + bands[1]
    (regions,) = split_windows(regions[None, :, :, None], 1, window_size, 0, parts=1)
    regions = regions[0, :, 0, :, 0]
    return (-100.0 * (regions[:, :, None] != regions[:, None, :])).to(device)


def split_windows(
    tokens: Tensor, num_heads: int, window_size: int, shift: int, parts: int = 3
) -> tuple[Tensor, ...]:
    """Partition tokens into windows and heads, after zero padding and a roll by `shift`.

    Args:
        tokens: (B, H, W, parts * heads * d).
    Returns:
        As many tensors as `parts`: (B, windows, heads, window_size^2, d) each.
    """
    w = window_size
    tokens = F.pad(tokens, (0, 0, 0, -tokens.shape[2] % w, 0, -tokens.shape[1] % w))
    if shift:
        tokens = tokens.roll((-shift, -shift), (1, 2))
    tokens = tokens.unflatten(3, (parts, num_heads, -1))
    tokens = tokens.unflatten(2, (-1, w)).unflatten(1, (-1, w))
    # From B, rows, w, columns, w, parts, heads, d.
    tokens = tokens.permute(5, 0, 1, 3, 6, 2, 4, 7).contiguous()
    return tokens.flatten(5, 6).flatten(2, 3).unbind(0)


def join_windows(windows: Tensor, size: tuple[int, int], window_size: int, shift: int) -> Tensor:
    """Invert `split_windows`: (B, windows, heads, window_size^2, d) to (B, *size, C)."""
    (height, width), w = size, window_size
    windows = windows.unflatten(3, (w, w)).unflatten(1, (-(-height // w), -(-width // w)))
    # From B, rows, columns, heads, w, w, d.
    tokens = windows.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4).flatten(1, 2)
    if shift:
        tokens = tokens.roll((shift, shift), (1, 2))
    return tokens[:, :height, :width]


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
