"""Checks of arguments that several operators share; each raises ValueError."""

import torch
from torch import Tensor

HALF_TYPES = (torch.float16, torch.bfloat16)


def check_rotated_boxes(boxes: Tensor, name: str = "boxes") -> None:
    """Raise unless `boxes` is an (N, 5) floating-point tensor.

    Args:
        name: what the message calls the tensor.
    Raises:
        ValueError: `boxes` has another shape or dtype.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 5:
        raise ValueError(f"{name} must be (N, 5) XYWHA, got {tuple(boxes.shape)}")
    if not boxes.is_floating_point():
        raise ValueError(f"{name} must be floats, got {boxes.dtype}")


def check_float_tensor(tensor: Tensor, device: torch.device) -> None:
    """Raise unless `tensor` holds floating-point numbers on `device`.

    Raises:
        ValueError: it has another dtype or lies elsewhere.
    """
    if not tensor.is_floating_point() or tensor.device != device:
        raise ValueError(f"expected floats on {device}, got {tensor.dtype} on {tensor.device}")


def check_dtypes(
    input: Tensor, *same: Tensor | None, or_float32: tuple[Tensor | None, ...] = ()
) -> None:
    """Raise unless all tensors are floats on one device and their dtypes fit `input`.

    Args:
        input: its device and dtype are the ones expected.
        same: tensors of exactly that dtype; None is skipped.
        or_float32: tensors of that dtype, or of float32 if `input` is of a half type; None is
            skipped. For positions, since half precision can't tell neighbouring pixels of a large
            map apart, and for weights that are computed with in float32 anyway.
    Raises:
        ValueError: a tensor has another dtype or device.
    """
    tensors = [(tensor, False) for tensor in (input, *same)]
    tensors += [(tensor, input.dtype in HALF_TYPES) for tensor in or_float32]
    for tensor, float32_fits in tensors:
        if tensor is None:
            continue
        check_float_tensor(tensor, input.device)
        if tensor.dtype != input.dtype and not (float32_fits and tensor.dtype == torch.float32):
            raise ValueError(f"expected one dtype, got {input.dtype} and {tensor.dtype}")
