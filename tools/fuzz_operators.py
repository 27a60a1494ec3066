"""Calls of the operators' kernels with damaged arguments, past the checks of their Python faces."""

import math
import random
from typing import Any

import torch
from torch import Tensor

Arguments = list[Any]

CALLS = 100  # per input
STRANGE = (math.nan, math.inf, -math.inf, 1e30, -1e30, 3e38, 1e5, -5.0, 0.0)
WHOLE = (-1, 0, 1, 2, 3, 7, 64, 1 << 31, (1 << 63) - 1, -(1 << 63))
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.bool)


def call_operators(seed: bytes) -> None:
    """Call operators with arguments that fit each other, of which some are then damaged.

    An error is a good answer. Kernels that write beyond their buffers end the process, at once
    where they were built with a sanitizer.
    """
    chance = random.Random(seed)
    torch.manual_seed(chance.getrandbits(32))
    for _ in range(CALLS):
        name, arguments = chance.choice(sorted(_sound_arguments(chance).items()))
        for _ in range(chance.randint(0, 2)):
            place = chance.randrange(len(arguments))
            arguments[place] = _damaged(arguments[place], chance)
        try:
            getattr(torch.ops.d2ext, name)(*arguments)
        except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError):
            continue


def _sound_arguments(chance: random.Random) -> dict[str, Arguments]:
    """Return arguments of each operator, by its name."""
    import d2ext.ops  # noqa: F401  the operators are defined; the module takes seconds

    n, m, channels = (chance.randint(1, 9) for _ in range(3))
    boxes, others = _boxes(n), _boxes(m)
    corners = torch.rand(n, 4, 2)
    return {
        "box_iou_rotated": [boxes, others],
        "box_iou_rotated_backward": [torch.rand(n, m), boxes, others],
        "matched_iou_rotated": [boxes, _boxes(n)],
        "matched_iou_rotated_backward": [torch.rand(n), boxes, _boxes(n)],
        "rotated_corners": [boxes],
        "rotated_corners_backward": [corners, boxes],
        "nms_rotated": [boxes, torch.rand(n), torch.randint(3, (n,)), 0.5],
        **_focal_loss(n, m),
        **_roi_align(n, channels, chance),
        **_attention(n, m, channels, chance),
        **_convolution(channels, chance),
        **_plain_layers(channels, chance),
    }


def _boxes(count: int) -> Tensor:
    return torch.rand(count, 5) * torch.tensor([20.0, 20.0, 9.0, 9.0, 360.0])


def _focal_loss(n: int, m: int) -> dict[str, Arguments]:
    options = [torch.randn(n, m), torch.rand(n, m).round(), 0.25, 2.0, False]
    return {
        "sigmoid_focal_loss": options,
        "sigmoid_focal_loss_backward": [torch.rand(n, m), *options],
    }


def _roi_align(n: int, channels: int, chance: random.Random) -> dict[str, Arguments]:
    batch, height, width = (chance.randint(1, 9) for _ in range(3))
    rows, columns, ratio = (chance.randint(1, 4) for _ in range(3))
    maps, grad = torch.rand(batch, channels, height, width), torch.rand(n, channels, rows, columns)
    indices = torch.randint(batch, (n, 1))
    upright = torch.cat((indices, torch.rand(n, 2) * 9, 9 + torch.rand(n, 2)), 1)
    rotated = torch.cat((indices, _boxes(n)), 1)
    sizes, aligned = [batch, height, width], bool(chance.randrange(2))
    return {
        "roi_align": [maps, upright, 1.0, rows, columns, ratio, aligned],
        "roi_align_backward": [grad, upright, 1.0, ratio, aligned, *sizes],
        "roi_align_rotated": [maps, rotated, 1.0, rows, columns, ratio],
        "roi_align_rotated_backward": [grad, rotated, 1.0, ratio, *sizes],
    }


def _attention(n: int, m: int, channels: int, chance: random.Random) -> dict[str, Arguments]:
    sides = [chance.randint(1, 9) for _ in range(2 * chance.randint(1, 3))]
    pixels = sum(h * w for h, w in zip(sides[::2], sides[1::2], strict=True))
    levels, points, batch = len(sides) // 2, chance.randint(1, 4), chance.randint(1, 2)
    value = torch.rand(batch, pixels, m, channels)
    places = torch.rand(batch, n, m, levels, points, 2)
    operands = [value, sides, places, torch.rand(places.shape[:-1])]
    return {
        "ms_deform_attn": operands,
        "ms_deform_attn_backward": [torch.rand(batch, n, m * channels), *operands],
    }


def _convolution(channels: int, chance: random.Random) -> dict[str, Arguments]:
    side, kernel, batch = chance.randint(3, 9), chance.choice((1, 3)), chance.randint(1, 3)
    out = side - kernel + 1
    places = kernel * kernel * chance.choice((1, channels))
    given = torch.rand(batch, channels, side, side)
    offset = torch.randn(batch, 2 * places, out, out)
    weight, mask = torch.rand(2, channels, kernel, kernel), torch.rand(batch, places, out, out)
    layout = [[1, 1], [0, 0], [1, 1]]
    grad = torch.rand(batch, 2, out, out)
    first, backward = [given, offset, weight], [True, True, True]
    levels = [[given] * 2, [offset] * 2, weight]
    return {
        "deform_conv2d": [*first, torch.rand(2), mask, *layout],
        "deform_conv2d_backward": [grad, *first, mask, *layout, *backward],
        "deform_conv2d_levels": [*levels, torch.rand(2), [mask] * 2, *layout],
        "deform_conv2d_levels_backward": [[grad] * 2, *levels, [mask] * 2, *layout, *backward],
    }


def _plain_layers(channels: int, chance: random.Random) -> dict[str, Arguments]:
    """Return arguments of 3 x 3 convolutions with a padding of 1, and of affine channels."""
    batch, height, width = (chance.randint(1, 9) for _ in range(3))
    given = torch.rand(batch, channels, height, width)
    weight, dense = torch.rand(channels, 1, 3, 3), torch.rand(2, channels, 3, 3)
    layout, bias = [[1, 1], [1, 1, 1, 1], [1, 1]], torch.rand(channels)
    grad = torch.rand(batch, 2, height, width)
    return {
        "depthwise_conv2d": [given, weight, bias, *layout],
        "depthwise_conv2d_backward": [given, given, weight, *layout, True, True],
        "winograd_conv2d": [given, dense, torch.rand(2), 1],
        "winograd_conv2d_backward": [grad, given, 1],
        "channel_affine": [given, bias, bias, 0.0, 6.0],
        "channel_affine_backward": [given, given, bias, 0.0, 6.0],
    }


def _damaged(value: Any, chance: random.Random) -> Any:
    if isinstance(value, Tensor):
        return chance.choice((_with_strange, _reshaped, _converted, _strided))(value, chance)
    if isinstance(value, list) and isinstance(value[0], Tensor):
        return chance.choice(
            ([_damaged(value[0], chance), *value[1:]], value[1:], [*value, value[0]])
        )
    if isinstance(value, list):
        numbers = [chance.choice(WHOLE) if chance.random() < 0.5 else n for n in value]
        return numbers[: chance.randrange(1, len(numbers) + 1)]
    return chance.choice(STRANGE) if isinstance(value, float) else chance.choice(WHOLE)


def _with_strange(tensor: Tensor, chance: random.Random) -> Tensor:
    """Return a copy with a few strange numbers."""
    changed = tensor.clone(memory_format=torch.contiguous_format)
    for _ in range(chance.randint(1, 4) if changed.numel() else 0):
        number = chance.choice(STRANGE) if changed.is_floating_point() else chance.choice(WHOLE)
        changed.view(-1)[chance.randrange(changed.numel())] = number
    return changed


def _reshaped(tensor: Tensor, chance: random.Random) -> Tensor:
    """Return a tensor with one side changed, or with a dimension more or less."""
    shape = list(tensor.shape)
    if chance.random() < 0.3:
        return tensor.unsqueeze(0) if chance.random() < 0.5 else tensor.flatten()
    if shape:
        shape[chance.randrange(len(shape))] = chance.choice((0, 1, 2, 5, 17))
    return torch.rand(shape).to(tensor.dtype)


def _converted(tensor: Tensor, chance: random.Random) -> Tensor:
    return tensor.to(chance.choice(DTYPES))


def _strided(tensor: Tensor, chance: random.Random) -> Tensor:
    """Return the values in other memory: transposed, repeated without a copy, or every other."""
    if chance.random() < 0.3 and tensor.ndim:
        return tensor[:1].expand(tensor.shape) if len(tensor) else tensor
    if chance.random() < 0.5:
        return tensor.repeat_interleave(2, -1)[..., ::2] if tensor.ndim else tensor
    axes = list(range(tensor.ndim))
    chance.shuffle(axes)
    back = [axes.index(axis) for axis in range(tensor.ndim)]
    return tensor.permute(axes).contiguous().permute(back)
