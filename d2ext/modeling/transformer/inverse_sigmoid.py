"""The inverse of the sigmoid, for boxes that are refined before it."""

from torch import Tensor


def inverse_sigmoid(values: Tensor, eps: float = 1e-5) -> Tensor:
    """Compute the logit of values in [0, 1], bounded by keeping both sides at `eps` or more.

    The published models differ in `eps`: Deformable, Conditional and DAB-DETR use 1e-5, DINO 1e-3.
    """
    values = values.clamp(0, 1)
    return (values.clamp(min=eps) / (1 - values).clamp(min=eps)).log()
