"""Launcher of distributed runs: starts the processes on this machine."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from torch import distributed as dist
from torch import multiprocessing as mp

from detectron2.utils import comm

__all__ = ["DEFAULT_TIMEOUT", "launch"]

DEFAULT_TIMEOUT = timedelta(minutes=30)


def launch(
    main_func: Callable[..., Any],
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = None,
    args: tuple = (),
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> None:
    """Run `main_func(*args)` in every process of a run; call `launch` once on each machine.

    Processes communicate over NCCL, one GPU each, or over gloo without GPUs. A run of one process
    is a plain call.

    Args:
        num_gpus_per_machine: processes on each machine.
        machine_rank: index of this machine, from 0.
        dist_url: how processes find each other, as `torch.distributed` takes it; "auto" finds a
            free port and works on one machine only.
        timeout: timeout of every collective operation.

    Raises:
        ValueError: "auto" with several machines, or more processes than GPUs.
    """
    world_size = num_machines * num_gpus_per_machine
    if world_size <= 1:
        main_func(*args)
        return
    if dist_url is None or dist_url == "auto":
        if num_machines != 1:
            raise ValueError("dist_url 'auto' works on one machine: name the first one's host:port")
        dist_url = f"tcp://127.0.0.1:{_find_free_port()}"
    if num_machines > 1 and dist_url.startswith("file://"):
        logging.getLogger(__name__).warning(
            "file:// is not a reliable init_method on several machines; prefer tcp://"
        )
    _check_devices(num_gpus_per_machine)
    group = (world_size, num_gpus_per_machine, machine_rank, dist_url)
    mp.start_processes(
        _distributed_worker,
        args=(main_func, *group, args, timeout),
        nprocs=num_gpus_per_machine,
        # CUDA cannot be used in forked processes.
        start_method="spawn",
    )


def _find_free_port() -> int:
    # Another process may take the port before it is used: a small risk that "auto" accepts.
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def _check_devices(wanted: int) -> None:
    available = torch.cuda.device_count() if torch.cuda.is_available() else None
    if available is not None and wanted > available:
        raise ValueError(f"{wanted} processes, but this machine has {available} GPUs")


def _distributed_worker(
    local_rank: int,
    main_func: Callable[..., Any],
    world_size: int,
    num_gpus_per_machine: int,
    machine_rank: int,
    dist_url: str,
    args: tuple,
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> None:
    gpu = torch.cuda.is_available()
    if gpu:
        _check_devices(num_gpus_per_machine)
        torch.cuda.set_device(local_rank)
    dist.init_process_group(
        backend="nccl" if gpu else "gloo",
        init_method=dist_url,
        world_size=world_size,
        rank=machine_rank * num_gpus_per_machine + local_rank,
        timeout=timeout,
    )
    try:
        comm.create_local_process_group(num_gpus_per_machine)
        comm.synchronize()  # fail here if the processes cannot communicate
        main_func(*args)
    finally:
        dist.destroy_process_group()
