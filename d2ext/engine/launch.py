"""Processes: one, several on this machine, or those that torchrun or SLURM have started."""

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
from d2ext.errors import ConfigError, UserError
from detectron2.utils import comm

Main = Callable[..., Any]


@dataclass(frozen=True)
class RankInfo:
    """Where a process stands among all.

    Args:
        rank: number among all processes.
        world: how many there are.
        local_rank: number on this machine.
        local_world: how many there are on this machine.
        url: where they meet, as `init_process_group` takes it.
    """

    rank: int
    world: int
    local_rank: int
    local_world: int
    url: str


def launch(main: Main, args: argparse.Namespace, *more: Any, device: str = "cuda") -> Any:
    """Call `main(args, *more)` in every process that trains.

    `args` has Detectron2's `num_gpus`, `num_machines`, `machine_rank` and `dist_url`. Where
    torchrun or `srun` started several processes, they are used as they are. Without a GPU,
    `num_gpus` is the number of processes on the CPU.

    Args:
        main: importable by name, since new processes import it.
        more: can be pickled.
        device: MODEL.DEVICE; GPUs exchange by NCCL, CPUs by gloo.
    Returns:
        what `main` returns, in processes that were not started here.
    Raises:
        ConfigError: machines are counted wrongly or don't say where they meet.
        UserError: that of a process.
    """
    backend = "nccl" if device.startswith("cuda") and torch.cuda.is_available() else "gloo"
    place = started_place(os.environ)
    if place is not None:
        return _run(place, backend, main, (args, *more))
    local = max(1, args.num_gpus)
    world = local * args.num_machines
    if world == 1:
        return main(args, *more)
    url = _init_method(args)
    return _spawn(local, world, args.machine_rank, url, backend, main, (args, *more))


def world_size(args: argparse.Namespace) -> int:
    """How many processes `launch` makes or finds, on all machines together."""
    place = started_place(os.environ)
    return place.world if place else max(1, args.num_gpus) * args.num_machines


def started_place(environment: Mapping[str, str]) -> RankInfo | None:
    """The place that torchrun or SLURM gave this process; None if it was started by hand."""
    if {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"} <= environment.keys():
        return _torchrun_place(environment)
    if int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1 and "SLURM_PROCID" in environment:
        return _slurm_place(environment)
    return None


def _torchrun_place(environment: Mapping[str, str]) -> RankInfo:
    world = int(environment["WORLD_SIZE"])
    return RankInfo(
        rank=int(environment["RANK"]),
        world=world,
        local_rank=int(environment["LOCAL_RANK"]),
        local_world=int(environment.get("LOCAL_WORLD_SIZE", world)),
        url="env://",
    )


def _slurm_place(environment: Mapping[str, str]) -> RankInfo:
    world = int(environment["SLURM_STEP_NUM_TASKS"])
    nodes = int(environment.get("SLURM_STEP_NUM_NODES", 1))
    if world % nodes:
        raise ConfigError(
            f"SLURM runs {world} tasks on {nodes} nodes: use the same number on each "
            "(--ntasks-per-node)."
        )
    host = environment.get("MASTER_ADDR") or first_host(environment["SLURM_STEP_NODELIST"])
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
    """The first name in a SLURM list of nodes: "gpu[07-09,12],cpu1" -> "gpu07"."""
    found = re.match(r"([^\[,]+)(?:\[(\d+)[^\]]*\]([^\[,]*))?", nodes)
    if found is None:
        raise ConfigError(f"SLURM_STEP_NODELIST is {nodes!r}: no node in it; set MASTER_ADDR.")
    return "".join(part or "" for part in found.groups())


def _init_method(args: argparse.Namespace) -> str:
    if not 0 <= args.machine_rank < args.num_machines:
        raise ConfigError(
            f"--machine-rank {args.machine_rank}: must be 0 to {args.num_machines - 1} with "
            f"--num-machines {args.num_machines}."
        )
    if args.num_machines > 1 and args.dist_url == "auto":
        raise ConfigError(
            "--num-machines needs --dist-url tcp://HOST:PORT, the same on all machines: the "
            "address of machine 0 and a free port."
        )
    return f"tcp://127.0.0.1:{_free_port()}" if args.num_machines == 1 else args.dist_url


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _spawn(
    local: int, world: int, machine: int, url: str, backend: str, main: Main, arguments: tuple
) -> None:
    error_queue = mp.get_context("spawn").SimpleQueue()
    places = [RankInfo(machine * local + n, world, n, local, url) for n in range(local)]
    try:
        mp.spawn(_child, (places, backend, main, arguments, error_queue), nprocs=local)
    except (mp.ProcessExitedException, mp.ProcessRaisedException):
        if not error_queue.empty():
            name, message = error_queue.get()
            raise getattr(errors, name, UserError)(message) from None
        raise


def _child(
    index: int, places: list[RankInfo], backend: str, main: Main, arguments: tuple, error_queue: Any
) -> None:
    try:
        _run(places[index], backend, main, arguments)
    except UserError as error:
        error_queue.put((type(error).__name__, str(error)))
        raise


def _run(place: RankInfo, backend: str, main: Main, arguments: tuple) -> Any:
    if backend == "nccl":
        torch.cuda.set_device(place.local_rank)
    dist.init_process_group(backend, place.url, rank=place.rank, world_size=place.world)
    comm.create_local_process_group(place.local_world)
    result = main(*arguments)
    dist.destroy_process_group()  # not after a failure: it would wait for the other processes
    return result
