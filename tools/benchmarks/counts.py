"""Size of models: number of parameters, and multiply-adds per image."""

import argparse
from collections import Counter
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import d2ext.ops  # noqa: F401
from benchmarks.registry import register_benchmark
from d2ext.config import load_config
from d2ext.engine.dataless import build_model_without_data

CONFIGS = Path(__file__).parents[2] / "configs"
Size = Sequence[int]


def report(configs: list[str], size: tuple[int, int]) -> None:
    """Print one line per config; by default all of `configs/coco`.

    Args:
        size: height and width of the image, in pixels.
    """
    found = configs or sorted(map(str, CONFIGS.glob("coco/[!b]*.yaml")))  # without base.yaml
    print(f"one image of {size[0]}x{size[1]}; a multiplication with an addition counts once")
    for config in found:
        model = build_model_without_data(load_config(config)).eval()
        million = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        billion = sum(flops(model, size).values()) / 1e9
        print(f"{Path(config).stem:32} {million:6.1f} M parameters {billion:6.1f} GFLOPs")


@torch.no_grad()
def flops(model: nn.Module, size: tuple[int, int]) -> Counter[str]:
    """Count multiply-adds per operator: convolutions, linear layers and products of attention.

    Parameters of `model` require no gradients afterwards: the counter's hooks fail on those that
    are arguments of modules.
    """
    model.requires_grad_(False)
    torch.manual_seed(0)
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    with FlopCounterMode(display=False, custom_mapping=_FORMULAS) as counter:
        model([{"image": image}])
    found = counter.get_flop_counts().get("Global", {})
    # PyTorch counts a multiplication with an addition twice.
    return Counter({str(operator).split(".")[-1]: count // 2 for operator, count in found.items()})


def _convolution(_: Any, weight: Size, *options: Any, out_shape: Size, **kwargs: Any) -> int:
    batch, _, height, width = out_shape
    return 2 * batch * height * width * prod(weight)


def _deformable(_: Any, offset: Any, weight: Size, *options: Any, **kwargs: Any) -> int:
    # As many as a plain convolution of the same shape; interpolation is left out.
    return _convolution(None, weight, **kwargs)


def _deformable_levels(_: Any, offset: Any, weight: Size, *options: Any, out_shape: Any) -> int:
    return sum(_convolution(None, weight, out_shape=level) for level in out_shape)


def _attention(queries: Size, keys: Size, values: Size, *options: Any, **kwargs: Any) -> int:
    # Queries with keys, weights with values.
    return 2 * prod(queries[:-1]) * keys[-2] * (keys[-1] + values[-1])


# What PyTorch has no formula for.
_FORMULAS = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.d2ext.deform_conv2d: _deformable,
    torch.ops.d2ext.deform_conv2d_levels: _deformable_levels,
    torch.ops.d2ext.depthwise_conv2d: _convolution,
    torch.ops.d2ext.winograd_conv2d: _convolution,
}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("configs", nargs="*", metavar="CONFIG", help="all of configs/coco if none")
    parser.add_argument("--height", type=int, default=800, help="of the image, in pixels")
    parser.add_argument("--width", type=int, default=1216, help="of the image, in pixels")


def _run(args: argparse.Namespace) -> None:
    report(args.configs, (args.height, args.width))


register_benchmark("count", "parameters and GFLOPs of models", _add_arguments, _run)
