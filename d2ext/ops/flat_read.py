"""Reading a feature map's memory as if it had another size, as DyHead's published weights need."""

from torch import Tensor


def flat_read(tensor: Tensor, height: int, width: int) -> Tensor:
    """Return the first C * height * width values of each image in row-major order, as a map.

    This is neither a resize nor a crop. The CUDA kernel that DyHead (Dai et al. 2021,
    arXiv:2106.08322) was trained with reads the offsets and masks of a finer level this way where
    its output is smaller, and the published weights depend on it.

    Args:
        tensor: (B, C, H, W), any dtype; its memory format does not matter.
        height, width: size of the result, in pixels, with height * width <= H * W.
    Returns:
        (B, C, height, width), same dtype. Differentiable; values that are not read get zero
        gradient.
    Raises:
        ValueError: `tensor` is not (B, C, H, W), or is smaller than the result.
    """
    if tensor.ndim != 4:
        raise ValueError(f"tensor must be (B, C, H, W), got {tuple(tensor.shape)}")
    batch, channels, own_height, own_width = tensor.shape
    if height * width > own_height * own_width:
        raise ValueError(
            f"{own_height}x{own_width} maps have fewer pixels than the {height}x{width} to be read"
        )
    # Across channels: if the result is smaller, its channel 1 begins among channel 0's pixels.
    read = tensor.flatten(1)[:, : channels * height * width]
    return read.reshape(batch, channels, height, width)
