"""Operators whose gradient has no gradient of its own say so."""

from typing import Any

import torch


def register_differentiable_once(name: str) -> None:
    """Make differentiating d2ext::`name`_backward an error; by itself PyTorch gives no gradient."""

    def refuse(ctx: Any, *grads: object) -> None:
        raise RuntimeError(
            f"d2ext::{name} is differentiable once: its gradient has no gradient of its own"
        )

    torch.library.register_autograd(f"d2ext::{name}_backward", refuse)
