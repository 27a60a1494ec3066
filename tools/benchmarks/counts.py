"""Size of models: number of parameters, and multiply-adds per image."""

import argparse
import logging
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

import torch
from fvcore.nn.jit_handles import get_shape
from torch import nn

from benchmarks.registry import register_benchmark
from d2ext.config import load_config
from d2ext.engine.dataless import build_model_without_data
from detectron2.utils.analysis import FlopCountAnalysis

CONFIGS = Path(__file__).parents[2] / "configs"


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


def flops(model: nn.Module, size: tuple[int, int]) -> Counter[str]:
    """Count multiply-adds per operator: those that fvcore knows, and those of `_HANDLES`."""
    # Both warn about every operator they do not count.
    for name in ("fvcore.nn.jit_analysis", "fvcore.common.checkpoint"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.manual_seed(0)
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    counter = FlopCountAnalysis(model, [{"image": image}])
    counter.set_op_handle(**_HANDLES)
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return counter.by_operator()


def _deformable(inputs: list[Any], outputs: list[Any]) -> float:
    # As many as a plain convolution of the same shape; interpolation is left out.
    weight, (batch, _, height, width) = get_shape(inputs[2]), get_shape(outputs[0])
    return batch * height * width * prod(weight)


def _attention(inputs: list[Any], outputs: list[Any]) -> float:
    # Queries with keys, weights with values.
    queries, keys, values = (get_shape(each) for each in inputs[:3])
    return prod(queries[:-1]) * keys[-2] * (keys[-1] + values[-1])


_HANDLES = {
    "d2ext::deform_conv2d": _deformable,
    "aten::scaled_dot_product_attention": _attention,
}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("configs", nargs="*", metavar="CONFIG", help="all of configs/coco if none")
    parser.add_argument("--height", type=int, default=800, help="of the image, in pixels")
    parser.add_argument("--width", type=int, default=1216, help="of the image, in pixels")


def _run(args: argparse.Namespace) -> None:
    report(args.configs, (args.height, args.width))


register_benchmark("count", "parameters and GFLOPs of models", _add_arguments, _run)
