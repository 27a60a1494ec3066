"""A clear error for second derivatives of operators that have only a first one."""

from typing import Any

import torch


def register_differentiable_once(name: str) -> None:
    """Make differentiating d2ext::`name`_backward raise RuntimeError.

    Without this, double backward would silently return no gradient.
    """

    def raise_error(ctx: Any, *grads: object) -> None:
        raise RuntimeError(
            f"d2ext::{name} is differentiable once: double backward is not implemented"
        )

    torch.library.register_autograd(f"d2ext::{name}_backward", raise_error)
