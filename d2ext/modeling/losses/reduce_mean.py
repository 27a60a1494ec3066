"""The normaliser of losses in distributed training."""

from torch import Tensor
from torch.distributed import all_reduce

from detectron2.utils.comm import get_world_size


def reduce_mean(total: Tensor) -> Tensor:
    """Return the mean of a scalar over all processes, without gradient.

    Losses are divided by it, so that every process normalises alike.
    """
    total = total.detach().clone()
    if get_world_size() > 1:
        all_reduce(total)
        total /= get_world_size()
    return total
