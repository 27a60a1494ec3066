"""Recovery from running out of GPU memory."""

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

__all__ = ["retry_if_cuda_oom"]


@contextmanager
def _ignore_torch_cuda_oom() -> Iterator[None]:
    """Leave the block silently when the GPU is out of memory."""
    with suppress(torch.cuda.OutOfMemoryError):
        yield


def retry_if_cuda_oom(func: Callable) -> Callable:
    """Retry `func` when the GPU is out of memory: with its cache emptied, then on the CPU.

    `func` must be free of side effects. For the CPU, arguments with `.to` are moved from the GPU,
    but not those inside lists or dicts; the results then stay on the CPU.
    """

    @functools.wraps(func)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with _ignore_torch_cuda_oom():
            return func(*args, **kwargs)
        torch.cuda.empty_cache()  # the exception is gone by now: its frames held tensors
        with _ignore_torch_cuda_oom():
            return func(*args, **kwargs)
        logging.getLogger(__name__).info("Out of GPU memory: running %s on the CPU.", func)
        moved = {name: _on_cpu(value) for name, value in kwargs.items()}
        return func(*map(_on_cpu, args), **moved)

    return wrapped


def _on_cpu(value: Any) -> Any:
    device = getattr(value, "device", None)
    on_gpu = device is not None and torch.device(device).type == "cuda"
    return value.to(device="cpu") if on_gpu and hasattr(value, "to") else value
