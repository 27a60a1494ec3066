"""ShuffleNetV2: half of the channels bypass each unit, then channels are shuffled.

Source: Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design",
2018, arXiv:1807.11164, section 4; the shuffle is the one of https://github.com/megvii-model, that
YOLO-FastestV2 uses: channels of even index pass, those of odd index are worked on.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2ext.projects.yolo_fastest.modeling.layers import conv
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone

FIRST_STRIDE = 8  # of the first stage: behind the stem and its pooling


@BACKBONE_REGISTRY.register()
class ShuffleNetV2(Backbone):
    """Stages of strides 8, 16, 32, ... under the names "stage2", "stage3", "stage4", ...

    Args:
        in_channels: channels of the image.
        stem_channels: channels of the first convolution.
        stage_channels: channels per stage; even.
        stage_repeats: units per stage, the first of which halves the resolution.
        norm: a name of `detectron2.layers.get_norm`.
        out_features: names of the stages to return.
    """

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        stem_channels: int,
        stage_channels: Sequence[int],
        stage_repeats: Sequence[int],
        norm: str,
        out_features: Sequence[str],
    ) -> None:
        super().__init__()
        self.stem = conv(in_channels, stem_channels, kernel_size=3, stride=2, relu=False, norm=norm)
        self.stages: list[str] = []
        self._out_features = list(out_features)
        self._out_feature_channels, self._out_feature_strides = {}, {}
        before = stem_channels
        pairs = zip(stage_channels, stage_repeats, strict=True)
        for number, (channels, repeats) in enumerate(pairs):
            name = f"stage{number + 2}"
            units = [DownUnit(before, channels, norm)]
            units += [ShuffleUnit(channels, norm) for _ in range(repeats - 1)]
            self.add_module(name, nn.Sequential(*units))
            self.stages.append(name)
            self._out_feature_channels[name] = before = channels
            self._out_feature_strides[name] = FIRST_STRIDE * 2**number

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        options = {key.lower(): value for key, value in cfg.MODEL.SHUFFLENET.items()}
        return {"in_channels": input_shape.channels, **options}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute feature maps (B, C, H / stride, W / stride) of (B, in_channels, H, W) images."""
        # ReLU and pooling change places: the same numbers for a quarter of the work.
        x = F.relu(_max_pool(self.stem(images)))
        outputs = {}
        for name in self.stages:
            x = getattr(self, name)(x)
            outputs[name] = x
        return {name: outputs[name] for name in self._out_features}


class ShuffleUnit(nn.Module):
    """A unit that keeps resolution and channels, and transforms half of them."""

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        half = channels // 2
        self.main = _main_branch(half, half, half, 1, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (B, channels, H, W) features."""
        if not self.training:  # what exporters and runtimes make the best of
            return torch.cat((x[:, ::2], self.main(x[:, 1::2])), dim=1)
        # As channels-last views: gradients of sliced channels would be of the other layout, and
        # everything before them slow.
        kept, mixed = x.permute(0, 2, 3, 1).unflatten(-1, (-1, 2)).unbind(-1)
        mixed = self.main(mixed.contiguous().permute(0, 3, 1, 2))
        return torch.cat((kept, mixed.permute(0, 2, 3, 1)), dim=-1).permute(0, 3, 1, 2)


class DownUnit(nn.Module):
    """A unit that halves the resolution: both of its branches see all channels."""

    def __init__(self, in_channels: int, out_channels: int, norm: str) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            conv(
                in_channels,
                in_channels,
                kernel_size=3,
                stride=2,
                depthwise=True,
                relu=False,
                norm=norm,
            ),
            conv(in_channels, in_channels, norm=norm),
        )
        self.main = _main_branch(
            in_channels, out_channels // 2, out_channels - in_channels, 2, norm
        )

    def forward(self, x: Tensor) -> Tensor:
        """Downsample (B, in_channels, H, W) to (B, out_channels, H / 2, W / 2)."""
        return torch.cat((self.proj(x), self.main(x)), dim=1)


def _main_branch(
    in_channels: int, width: int, out_channels: int, stride: int, norm: str
) -> nn.Sequential:
    return nn.Sequential(
        conv(in_channels, width, norm=norm),
        conv(width, width, kernel_size=3, stride=stride, depthwise=True, relu=False, norm=norm),
        conv(width, out_channels, norm=norm),
    )


def _max_pool(x: Tensor) -> Tensor:
    """Apply 3x3 max pooling with stride 2; may overwrite `x`."""
    captured = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if torch.is_grad_enabled() or captured or x.device.type != "cpu":
        return F.max_pool2d(x, 3, stride=2, padding=1)
    # In half of the time and no memory of its own: PyTorch's keeps the indices of the maxima.
    return _halved(_halved(x, 2), 3)


def _halved(x: Tensor, dim: int) -> Tensor:
    """Max-pool rows or columns by three with stride two, in place; return a view."""
    x = x.movedim(dim, 0)
    even, odd = x[::2], x[1::2]
    before, after = even[: len(odd)], even[1:]
    torch.maximum(before, odd, out=before)
    torch.maximum(after, odd[: len(after)], out=after)
    return even.movedim(0, dim)
