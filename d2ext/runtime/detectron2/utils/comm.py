"""Communication between processes; every function also works without `torch.distributed`."""

import functools
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup

# Ranks of the processes on this machine; set by create_local_process_group.
_LOCAL_PROCESS_GROUP: ProcessGroup | None = None


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    """Return the number of processes on all machines; 1 without `torch.distributed`."""
    return dist.get_world_size() if _is_distributed() else 1


def get_rank() -> int:
    """Return the rank of this process; 0 without `torch.distributed`."""
    return dist.get_rank() if _is_distributed() else 0


def is_main_process() -> bool:
    """Return whether this is the process of rank 0, which logs and writes."""
    return get_rank() == 0


def create_local_process_group(num_workers_per_machine: int) -> None:
    """Create the groups of the ranks of each machine, once. All processes must call it.

    Args:
        num_workers_per_machine: processes on each machine, the same on all.

    Raises:
        RuntimeError: the local group exists already.
        ValueError: the number of processes is not a multiple of `num_workers_per_machine`.
    """
    global _LOCAL_PROCESS_GROUP
    if _LOCAL_PROCESS_GROUP is not None:
        raise RuntimeError("The local process group exists already.")
    world = get_world_size()
    if world % num_workers_per_machine:
        raise ValueError(f"{world} processes on machines of {num_workers_per_machine} each.")
    for first in range(0, world, num_workers_per_machine):
        ranks = list(range(first, first + num_workers_per_machine))
        group = dist.new_group(ranks)  # every process has to create every group
        if get_rank() in ranks and isinstance(group, ProcessGroup):
            _LOCAL_PROCESS_GROUP = group


def get_local_process_group() -> ProcessGroup:
    """Return the group of this machine's processes.

    Raises:
        RuntimeError: `create_local_process_group` was not called.
    """
    if _LOCAL_PROCESS_GROUP is None:
        raise RuntimeError(
            "No local process group: start by detectron2.engine.launch, or call "
            "detectron2.utils.comm.create_local_process_group in every process."
        )
    return _LOCAL_PROCESS_GROUP


def get_local_rank() -> int:
    """Return the rank of this process among those on its machine."""
    return dist.get_rank(group=get_local_process_group()) if _is_distributed() else 0


def get_local_size() -> int:
    """Return the number of processes on this machine."""
    return dist.get_world_size(group=get_local_process_group()) if _is_distributed() else 1


def synchronize() -> None:
    """Wait for all processes (barrier)."""
    if get_world_size() == 1:
        return
    # Without it NCCL guesses the device of the barrier.
    nccl = dist.get_backend() == dist.Backend.NCCL
    dist.barrier(device_ids=[torch.cuda.current_device()] if nccl else None)


@functools.lru_cache
def _gloo_group() -> Any:
    # Over gloo, so that objects take no GPU memory. None is the group of all processes.
    return dist.new_group(backend="gloo") if dist.get_backend() == "nccl" else None


def all_gather(data: Any, group: ProcessGroup | None = None) -> list[Any]:
    """Gather every process's `data`, by rank, on every process.

    Args:
        data: any picklable object.
        group: the processes; by default all of them, over gloo.
    """
    if get_world_size() == 1:
        return [data]
    group = group or _gloo_group()
    found: list[Any] = [None] * dist.get_world_size(group)
    if len(found) == 1:
        return [data]
    dist.all_gather_object(found, data, group=group)
    return found


def gather(data: Any, dst: int = 0, group: ProcessGroup | None = None) -> list[Any]:
    """Gather every process's `data`, by rank, on rank `dst`; return an empty list elsewhere.

    Args:
        data: any picklable object.
        dst: the rank that gets the list.
        group: the processes; by default all of them, over gloo.
    """
    if get_world_size() == 1:
        return [data]
    group = group or _gloo_group()
    size = dist.get_world_size(group)
    if size == 1:
        return [data]
    found: list[Any] | None = [None] * size if dist.get_rank(group) == dst else None
    dist.gather_object(data, found, dst=dst, group=group)
    return found or []


def shared_random_seed() -> int:
    """Return a random seed below 2**31, the same on all processes, which must all call it."""
    # Every rank draws, so that their random states stay in step; rank 0's value counts.
    return all_gather(np.random.randint(2**31))[0]


def reduce_dict(input_dict: dict[str, Tensor], average: bool = True) -> dict[str, Tensor]:
    """Reduce scalar tensors over processes to their mean or sum; only rank 0's result is valid."""
    if get_world_size() < 2:
        return input_dict
    with torch.no_grad():
        names = sorted(input_dict)  # the same order on all processes
        # One message for all scalars.
        values = torch.stack([input_dict[name] for name in names])
        dist.reduce(values, dst=0)
        if average and is_main_process():
            values /= get_world_size()
    return dict(zip(names, values, strict=True))
