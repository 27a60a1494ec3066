"""Memory read as if the maps had another size: what DyHead's published weights rely on."""

from torch import Tensor


def flat_read(tensor: Tensor, height: int, width: int) -> Tensor:
    """The first C * height * width numbers of each image's row-major memory, as maps of that size.

    Neither a resize nor a crop. The kernel that DyHead (Dai et al. 2021, arXiv:2106.08322) was
    trained with reads offsets and masks of a finer level this way where its output is smaller;
    the published weights have learnt to live with it.

    Args:
        tensor: (B, C, H, W), any dtype; its memory format does not matter.
        height, width: size to read, with height * width <= H * W.
    Returns:
        (B, C, height, width). Differentiable; numbers that are not read get zero gradient.
    Raises:
        ValueError: `tensor` is not (B, C, H, W), or has fewer numbers than are to be read.
    """
    if tensor.ndim != 4:
        raise ValueError(f"tensor must be (B, C, H, W), got {tuple(tensor.shape)}")
    batch, channels, own_height, own_width = tensor.shape
    if height * width > own_height * own_width:
        raise ValueError(f"{own_height}x{own_width} maps hold no {height}x{width} ones")
    read = tensor.flatten(1)[:, : channels * height * width]
    return read.reshape(batch, channels, height, width)
