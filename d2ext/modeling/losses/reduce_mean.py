"""What sums of losses are divided by."""

from torch import Tensor
from torch.distributed import all_reduce

from detectron2.utils.comm import get_world_size


def mean_over_processes(total: Tensor) -> Tensor:
    """The mean of a scalar over all processes, so that each normalises alike; without gradient."""
    total = total.detach().clone()
    if get_world_size() > 1:
        all_reduce(total)
        total /= get_world_size()
    return total
