"""Whole detectors compared with the same ones with DyHead's blocks written as its authors do.

Those call torchvision's operator for each pair of levels and keep every intermediate result for the
backward pass.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import d2ext.modeling  # noqa: F401
from benchmarks.measure import Problem
from benchmarks.problems import register_problems
from d2ext.config import load_config
from d2ext.modeling.backbone.swin import SwinBlock
from d2ext.modeling.neck.dyhead import DeformConvNorm, DyHeadBlock, TaskAttention
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

CONFIGS = Path(__file__).parents[2] / "configs"
# A convolutional and a transformer backbone.
NAMES = ("dyhead_r50_atss_fpn_1x", "dyhead_swint_atss_fpn_2x_ms")
SIZE = (800, 1216)


def problems(device: torch.device, dtype: torch.dtype) -> Iterator[Problem]:
    """Yield one problem per model; half types run under autocast."""
    for name in NAMES:
        yield problem(str(CONFIGS / "coco" / f"{name}.yaml"), SIZE, device, dtype, (1.5, 1.5))


def problem(
    config: str,
    size: tuple[int, int],
    device: torch.device,
    dtype: torch.dtype,
    goals: tuple[float | None, float | None] = (None, None),
) -> Problem:
    """Build a problem of one image of `size`: forward is inference, with backward is training."""
    cfg = load_config(config)
    cfg.MODEL.DEVICE = device.type
    model = build_model(cfg)
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    leaves = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def ours(image: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return run_detector(model, image)

    def by_pairs(image: Tensor) -> Tensor:
        with mock.patch.object(DyHeadBlock, "forward", _block), _keeping(model):
            return ours(image)

    return Problem(
        title=f"{Path(config).stem}, {size[0]}x{size[1]}",
        inputs=[image],
        ways={"d2ext": ours, "an operator call per pair": by_pairs},
        peer="an operator call per pair",
        goals=goals,
        leaves=leaves,
    )


@contextlib.contextmanager
def _keeping(model: nn.Module) -> Iterator[None]:
    """Turn gradient checkpointing of the backbone off."""
    blocks = [module for module in model.modules() if isinstance(module, SwinBlock)]
    before = [block.use_checkpoint for block in blocks]
    for block in blocks:
        block.use_checkpoint = False
    try:
        yield
    finally:
        for block, again in zip(blocks, before, strict=True):
            block.use_checkpoint = again


def run_detector(model: nn.Module, image: Tensor) -> Tensor:
    """Return the total loss where gradients are recorded, otherwise scores of detections."""
    if not torch.is_grad_enabled():
        found = model.eval()([{"image": image}])
        return found[0]["instances"].scores
    losses = model.train()([{"image": image, "instances": _truth(image)}])
    return torch.stack(list(losses.values())).sum()


def _truth(image: Tensor) -> Instances:
    """Return seven boxes of growing size, as many as an image of COCO has on average."""
    instances = Instances(image.shape[-2:])
    sides = torch.tensor([16.0, 32, 64, 96, 128, 256, 512])
    corner = torch.arange(7.0) * 30
    boxes = torch.stack((corner, corner, corner + sides, corner + sides), dim=1)
    instances.gt_boxes = Boxes(boxes)
    instances.gt_classes = torch.arange(7)
    return instances


def _block(block: DyHeadBlock, levels: Sequence[Tensor]) -> list[Tensor]:
    """Compute `DyHeadBlock.forward` step by step."""
    spatial, outputs = block.spatial, []
    for index, level in enumerate(levels):
        offset, mask = spatial.offset(level).split((18, 9), dim=1)
        mask = mask.sigmoid()
        views = [_convolve(spatial.same, level, offset, mask)]
        if index > 0:
            views.append(_convolve(spatial.finer, levels[index - 1], offset, mask))
        if index + 1 < len(levels):
            size = levels[index + 1].shape[-2:]
            few = [spatial.read_coarsely(tensor, *size) for tensor in (offset, mask)]
            view = _convolve(spatial.coarser, levels[index + 1], *few)
            size = level.shape[-2:]
            views.append(F.interpolate(view, size, mode="bilinear", align_corners=True))
        weights = torch.stack([block.scale.weight_of(view) for view in views])
        outputs.append(_attend(block.task, (torch.stack(views) * weights).mean(0)))
    return outputs


def _convolve(layer: DeformConvNorm, feature: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
    """Compute `DeformConvNorm.forward` with torchvision's operator, in float32."""
    tensors = (feature, offset, layer.weight, layer.bias, mask)
    # It does not support bfloat16.
    first, shifts, weight, bias, factors = (tensor.float() for tensor in tensors)
    with torch.autocast(feature.device.type, enabled=False):
        found = torchvision.ops.deform_conv2d(
            first, shifts, weight, bias, stride=layer.stride, padding=1, mask=factors
        )
    return layer.norm(found.to(feature.dtype))


def _attend(task: TaskAttention, level: Tensor) -> Tensor:
    """Compute `TaskAttention.forward` as equation 5 states it."""
    theta = F.hardsigmoid(task.fc2(task.fc1(level.mean((2, 3))).relu())) - 0.5
    slope1, shift1, slope2, shift2 = theta[:, :, None, None].chunk(4, dim=1)
    return torch.maximum(level * (2 * slope1 + 1) + shift1, level * (2 * slope2) + shift2)


register_problems("models", "dyhead", problems)
