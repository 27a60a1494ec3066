"""Normalisation layers of convolutional networks, and their names in configs."""

from collections.abc import Callable
from typing import Any

import torch
from fvcore.nn.distributed import differentiable_all_reduce
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.utils import comm

from .wrappers import BatchNorm2d


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation with fixed statistics and affine parameters.

    `weight`, `bias`, `running_mean` and `running_var`, all (num_features,), are buffers with the
    names of `BatchNorm2d`. It is initialised to the identity.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor | None
    _version = 3  # of the state dict; below 2 the statistics may be absent

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features, self.eps = num_features, eps
        identity = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0 - eps}
        for name, value in identity.items():
            self.register_buffer(name, torch.full((num_features,), value))
        self.register_buffer("num_batches_tracked", None)  # set by conversion

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, num_features, H, W), any floating dtype."""
        if not x.requires_grad:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        # A product with a sum keeps less for the backward pass than batch_norm does.
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        shift = self.bias - self.running_mean * scale
        return torch.addcmul(_per_channel(shift, x), x, _per_channel(scale, x))

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, local_metadata: dict, *args: Any
    ) -> None:
        if (local_metadata.get("version") or 0) < 2:
            identity = {
                "running_mean": torch.zeros_like(self.running_mean),
                "running_var": torch.ones_like(self.running_var),
            }
            for name, value in identity.items():
                state_dict.setdefault(prefix + name, value)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def __repr__(self) -> str:
        return f"FrozenBatchNorm2d(num_features={self.num_features}, eps={self.eps})"

    @classmethod
    def convert_frozen_batchnorm(cls, module: nn.Module) -> nn.Module:
        """Convert every `BatchNorm2d` and `SyncBatchNorm` in `module` to `FrozenBatchNorm2d`.

        Returns:
            `module`, changed in place, or its frozen version if it is a batch norm itself.
        """
        return _replace(module, (BatchNorm2d, nn.SyncBatchNorm), cls)

    @classmethod
    def convert_frozenbatchnorm2d_to_batchnorm2d(cls, module: nn.Module) -> nn.Module:
        """Convert back to trainable `BatchNorm2d`; the reverse of `convert_frozen_batchnorm`."""
        return _replace(module, (FrozenBatchNorm2d,), BatchNorm2d)


def _per_channel(vector: Tensor, x: Tensor) -> Tensor:
    return vector.to(x.dtype).view(1, -1, 1, 1)


def _replace(module: nn.Module, old: tuple[type, ...], new: type[nn.Module]) -> nn.Module:
    if isinstance(module, old):
        return _same_statistics(module, new)
    for name, child in module.named_children():
        replacement = _replace(child, old, new)
        if replacement is not child:
            module.add_module(name, replacement)
    return module


def _same_statistics(source: Any, new: type[nn.Module]) -> nn.Module:
    target: Any = new(source.num_features, source.eps)
    for name in ("weight", "bias", "running_mean", "running_var"):
        value = getattr(source, name)
        if value is not None:
            getattr(target, name).data = value.detach().clone()
    count = source.num_batches_tracked
    target.num_batches_tracked = None if count is None else count.clone()
    return target.train(source.training)


class NaiveSyncBatchNorm(BatchNorm2d):
    """Synchronised batch normalisation by plain all-reduces.

    Unlike `nn.SyncBatchNorm` it works on CPU, and without images on some ranks.

    Args:
        stats_mode: "" weights all processes equally; "N" weights them by batch size, which may
            differ between processes or be zero.
    """

    def __init__(self, *args: Any, stats_mode: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if stats_mode not in ("", "N"):
            raise ValueError(f"stats_mode is '' or 'N', got {stats_mode!r}")
        self._stats_mode = stats_mode

    def forward(self, input: Tensor) -> Tensor:
        if comm.get_world_size() == 1 or not self.training:
            return super().forward(input)
        dtype = input.dtype
        input = input.float()
        mean, mean_of_squares, momentum = self._global_moments(input)
        var = mean_of_squares - mean * mean
        scale = self.weight * torch.rsqrt(var + self.eps)
        shift = self.bias - mean * scale
        with torch.no_grad():
            for running, now in ((self.running_mean, mean), (self.running_var, var)):
                if running is not None:
                    running.lerp_(now.detach(), momentum)
        return (input * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)).to(dtype)

    def _global_moments(self, input: Tensor) -> tuple[Tensor, Tensor, float | Tensor]:
        batch_size, channels = input.shape[:2]
        if batch_size == 0 and self._stats_mode == "":
            raise ValueError("an empty batch on some process needs stats_mode='N'")
        if batch_size == 0:
            moments = input.sum(dim=(0, 2, 3)).repeat(2)  # zeros that stay in the graph
        else:
            moments = torch.cat([input.mean(dim=(0, 2, 3)), input.square().mean(dim=(0, 2, 3))])
        if self._stats_mode == "":
            moments = differentiable_all_reduce(moments) / comm.get_world_size()
            return (*moments.split(channels), self.momentum)
        weight = torch.full_like(moments[:1], float(batch_size))
        # The count travels with the moments: one message, not two.
        total = differentiable_all_reduce(torch.cat([moments * weight, weight]))
        count = total[-1].detach()
        mean, mean_of_squares = (total[:-1] / count.clamp(min=1)).split(channels)
        return mean, mean_of_squares, self.momentum * count.clamp(max=1)


class CycleBatchNormList(nn.ModuleList):
    """Batch norms used in turn, one per feature level of a head shared by the levels.

    The affine parameters are shared, the statistics are not.

    Args:
        length: number of batch norms.
        bn_class: `BatchNorm2d` or a class constructed like it.
        kwargs: its arguments; `num_features` is required, and `affine=False` omits the shared
            parameters.
    """

    def __init__(
        self, length: int, bn_class: type[nn.Module] = nn.BatchNorm2d, **kwargs: Any
    ) -> None:
        affine = kwargs.pop("affine", True)
        super().__init__(bn_class(**kwargs, affine=False) for _ in range(length))
        if affine:
            channels = kwargs["num_features"]
            self.weight = nn.Parameter(torch.ones(channels))
            self.bias = nn.Parameter(torch.zeros(channels))
        self._affine = affine
        self._turn = 0

    def forward(self, x: Tensor) -> Tensor:
        x = self[self._turn](x)
        self._turn = (self._turn + 1) % len(self)
        if not self._affine:
            return x
        return x * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)

    def extra_repr(self) -> str:
        return f"affine={self._affine}"


class LayerNorm(nn.Module):
    """Layer normalisation over the channels of (B, C, H, W), at each position separately."""

    def __init__(self, normalized_shape: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(normalized_shape))
        self.bias = nn.Parameter(torch.zeros(normalized_shape))
        self.eps = eps
        self.normalized_shape = (normalized_shape,)

    def forward(self, x: Tensor) -> Tensor:
        channels_last = x.permute(0, 2, 3, 1)
        normed = F.layer_norm(
            channels_last, self.normalized_shape, self.weight, self.bias, self.eps
        )
        return normed.permute(0, 3, 1, 2)


_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "BN": BatchNorm2d,
    "SyncBN": nn.SyncBatchNorm,
    "nnSyncBN": nn.SyncBatchNorm,
    "naiveSyncBN": NaiveSyncBatchNorm,
    "naiveSyncBN_N": lambda channels: NaiveSyncBatchNorm(channels, stats_mode="N"),
    "FrozenBN": FrozenBatchNorm2d,
    "GN": lambda channels: nn.GroupNorm(32, channels),
    "LN": LayerNorm,
}


def get_norm(norm: str | Callable[[int], nn.Module] | None, out_channels: int) -> nn.Module | None:
    """Build a normalisation layer for `out_channels` channels.

    Args:
        norm: "" or None for none; one of "BN", "SyncBN", "FrozenBN", "GN", "LN", "nnSyncBN",
            "naiveSyncBN", "naiveSyncBN_N"; or a callable that takes the number of channels.

    Raises:
        KeyError: an unknown name.
    """
    if norm is None or norm == "":
        return None
    if not isinstance(norm, str):
        return norm(out_channels)
    if norm not in _NORMS:
        raise KeyError(f"no normalisation named {norm!r}; the known ones: {', '.join(_NORMS)}")
    return _NORMS[norm](out_channels)
