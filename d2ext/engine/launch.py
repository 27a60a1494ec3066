"""Launch training processes, or join those that torchrun or SLURM started."""

import argparse
import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from d2ext import errors
from d2ext.engine.interruption import requests_forwarded
from d2ext.errors import ConfigError, Interrupted, UserError
from d2ext.processes import end_with_parent
from detectron2.utils import comm

Main = Callable[..., Any]


@dataclass(frozen=True)
class RankInfo:
    """The rank of a process in the process group.

    Args:
        rank: index among all processes.
        world: number of processes.
        local_rank: index on this machine.
        local_world: number of processes on this machine.
        url: init method of `torch.distributed.init_process_group`.
    """

    rank: int
    world: int
    local_rank: int
    local_world: int
    url: str


def launch(main: Main, args: argparse.Namespace, *more: Any, device: str = "cuda") -> Any:
    """Call `main(args, *more)` in every training process.

    `args` has Detectron2's `num_gpus`, `num_machines`, `machine_rank` and `dist_url`. Processes
    that torchrun or `srun` started are used as they are. Without a GPU, `num_gpus` is the number
    of processes on the CPU.

    Args:
        main: importable by name, since spawned processes import it.
        more: picklable.
        device: MODEL.DEVICE; GPUs communicate by NCCL, CPUs by gloo.
    Returns:
        What `main` returns, in processes that were not spawned here.
    Raises:
        ConfigError: the machine rank is out of range, or --dist-url is missing.
        UserError: raised in a spawned process.
        Interrupted: a training was stopped on request.
    """
    backend = "nccl" if device.startswith("cuda") and torch.cuda.is_available() else "gloo"
    rank = started_rank(os.environ)
    if rank is not None:
        return _run(rank, backend, main, (args, *more))
    local = max(1, args.num_gpus)
    world = local * args.num_machines
    if world == 1:
        return main(args, *more)
    url = _init_method(args)
    return _spawn(local, world, args.machine_rank, url, backend, main, (args, *more))


def world_size(args: argparse.Namespace) -> int:
    """Return the number of processes that `launch` starts or joins, over all machines."""
    rank = started_rank(os.environ)
    return rank.world if rank else max(1, args.num_gpus) * args.num_machines


def starts_processes(args: argparse.Namespace) -> bool:
    """Return true if `launch` starts processes and runs `main` in them, not in this one."""
    return started_rank(os.environ) is None and world_size(args) > 1


def started_rank(environment: Mapping[str, str]) -> RankInfo | None:
    """Return the rank that torchrun or SLURM assigned; None if neither started the process."""
    if {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"} <= environment.keys():
        return _torchrun_rank(environment)
    if int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1 and "SLURM_PROCID" in environment:
        return _slurm_rank(environment)
    return None


def _torchrun_rank(environment: Mapping[str, str]) -> RankInfo:
    world = int(environment["WORLD_SIZE"])
    return RankInfo(
        rank=int(environment["RANK"]),
        world=world,
        local_rank=int(environment["LOCAL_RANK"]),
        local_world=int(environment.get("LOCAL_WORLD_SIZE", world)),
        url="env://",
    )


def _slurm_rank(environment: Mapping[str, str]) -> RankInfo:
    world = int(environment["SLURM_STEP_NUM_TASKS"])
    nodes = int(environment.get("SLURM_STEP_NUM_NODES", 1))
    if world % nodes:
        raise ConfigError(
            f"SLURM runs {world} tasks on {nodes} nodes: use the same number on each "
            "(--ntasks-per-node)."
        )
    host = environment.get("MASTER_ADDR") or first_host(environment["SLURM_STEP_NODELIST"])
    # The job's number gives all tasks the same port, and other jobs on the host another one.
    job = int(environment.get("SLURM_JOB_ID", 0))
    port = environment.get("MASTER_PORT") or str(20000 + job % 20000)
    return RankInfo(
        rank=int(environment["SLURM_PROCID"]),
        world=world,
        local_rank=int(environment["SLURM_LOCALID"]),
        local_world=world // nodes,
        url=f"tcp://{host}:{port}",
    )


def first_host(nodes: str) -> str:
    """Return the first host of a SLURM node list: "gpu[07-09,12],cpu1" -> "gpu07"."""
    found = re.match(r"([^\[,]+)(?:\[(\d+)[^\]]*\]([^\[,]*))?", nodes)
    if found is None:
        raise ConfigError(f"SLURM_STEP_NODELIST is {nodes!r}: no node in it; set MASTER_ADDR.")
    return "".join(part or "" for part in found.groups())


def _init_method(args: argparse.Namespace) -> str:
    """Return the URL at which the processes of all machines find each other."""
    if not 0 <= args.machine_rank < args.num_machines:
        raise ConfigError(
            f"--machine-rank {args.machine_rank}: must be 0 to {args.num_machines - 1} with "
            f"--num-machines {args.num_machines}."
        )
    if args.num_machines > 1 and not re.match(r"tcp://.+:\d+$|file://.", args.dist_url):
        raise ConfigError(
            "--num-machines needs --dist-url tcp://HOST:PORT, the same on all machines: the "
            f"address of machine 0 and a free port; got {args.dist_url}."
        )
    return f"tcp://127.0.0.1:{_free_port()}" if args.num_machines == 1 else args.dist_url


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _spawn(
    local: int, world: int, machine: int, url: str, backend: str, main: Main, arguments: tuple
) -> None:
    # mp.spawn reports failures as text only; the queue keeps the type of a UserError.
    error_queue = mp.get_context("spawn").SimpleQueue()
    ranks = [RankInfo(machine * local + n, world, n, local, url) for n in range(local)]
    running = mp.spawn(
        _child, (ranks, backend, main, arguments, error_queue), nprocs=local, join=False
    )
    try:
        with requests_forwarded(running.pids()) as request:
            while not running.join():
                pass
    except (mp.ProcessExitedException, mp.ProcessRaisedException) as error:
        if not error_queue.empty():
            name, message = error_queue.get()
            # The traceback of a child's UserError says nothing more to the user.
            raise getattr(errors, name, UserError)(message) from None
        if isinstance(error, mp.ProcessExitedException) and error.signal_name:
            raise UserError(
                f"process {error.error_index} of the run was ended by {error.signal_name}, as the "
                "system does where memory runs out. --resume goes on from the last checkpoint."
            ) from None
        raise
    if not error_queue.empty():  # all processes stopped on request
        _, message = error_queue.get()
        raise Interrupted(message, request.signal)


def _child(
    index: int, ranks: list[RankInfo], backend: str, main: Main, arguments: tuple, error_queue: Any
) -> None:
    end_with_parent()
    try:
        _run(ranks[index], backend, main, arguments)
    except Interrupted as stop:
        error_queue.put((type(stop).__name__, str(stop)))
    except UserError as error:
        error_queue.put((type(error).__name__, str(error)))
        raise


def _run(info: RankInfo, backend: str, main: Main, arguments: tuple) -> Any:
    if backend == "nccl":
        torch.cuda.set_device(info.local_rank)
    dist.init_process_group(backend, info.url, rank=info.rank, world_size=info.world)
    comm.create_local_process_group(info.local_world)
    result = main(*arguments)
    dist.destroy_process_group()  # not after a failure: it would wait for the other processes
    return result
