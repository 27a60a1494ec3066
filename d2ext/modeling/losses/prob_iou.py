"""ProbIoU: a smooth loss of rotated boxes, compared as Gaussian distributions.

Source: Llerena et al., "Gaussian Bounding Boxes and Probabilistic Intersection-over-Union for
Object Detection", 2021, arXiv:2106.06072.
"""

from torch import Tensor

_EPSILON = 1e-6  # keeps square root and logarithm differentiable for equal boxes


def prob_iou(predicted: Tensor, target: Tensor) -> Tensor:
    """Compute 1 minus the Hellinger distance of pairs of boxes; unlike IoU never without gradient.

    Args:
        predicted: (N, 5) XYWHA in pixels and degrees.
        target: (N, 5), as `predicted`.
    Returns:
        (N,) in [0, 1].
    """
    (a1, b1, c1), (a2, b2, c2) = _covariance(predicted), _covariance(target)
    a, b, c = a1 + a2, b1 + b2, c1 + c2
    dx, dy = (predicted[:, :2] - target[:, :2]).unbind(1)
    determinant = a * b - c * c
    # Bhattacharyya distance (equation 5) with the sum of both covariances, twice their mean.
    apart = (a * dy * dy + b * dx * dx - 2 * c * dx * dy) / (4 * determinant)
    own = ((a1 * b1 - c1 * c1) * (a2 * b2 - c2 * c2)).clamp(min=_EPSILON).sqrt()
    unlike = 0.5 * (determinant / (4 * own)).clamp(min=_EPSILON).log()
    overlap = (-(apart + unlike).clamp(min=_EPSILON, max=100)).exp()
    return 1 - (1 - overlap).clamp(min=_EPSILON).sqrt()


def _covariance(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the variances in x and y and the covariance (N,) of a uniform density in each box."""
    width, height = (boxes[:, 2:4] ** 2 / 12).unbind(1)
    cos, sin = boxes[:, 4].deg2rad().cos(), boxes[:, 4].deg2rad().sin()
    # y points down, so that the width's direction is (cos, -sin).
    return (
        width * cos**2 + height * sin**2,
        width * sin**2 + height * cos**2,
        (height - width) * cos * sin,
    )
