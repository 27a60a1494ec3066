"""Choose the device of a process, and wrap models for it."""

from collections.abc import Callable, Mapping

import torch

from d2ext.errors import ConfigError
from detectron2.utils import comm

_KINDS = ("cuda", "cpu", "mps", "xpu", "meta")


def choose_device(wanted: str, num_gpus: int = 1) -> tuple[str, str]:
    """Choose the device to use for a MODEL.DEVICE; fall back to the CPU if there is no GPU.

    Args:
        wanted: "cuda", "cuda:1", "cpu", ...
        num_gpus: number of processes on this machine.
    Returns:
        The device and a line for the log, "" if there is nothing to report.
    Raises:
        ConfigError: there is no such device, or there are GPUs, but fewer than `num_gpus`.
    """
    kind, _, index = wanted.partition(":")
    if kind not in _KINDS or (index and not index.isdigit()):
        hint = f" Did you mean cuda:{wanted}?" if wanted.isdigit() else ""
        raise ConfigError(
            f"MODEL.DEVICE (--device) {wanted!r}: no device. Known: cuda, cuda:0, cuda:1, ..., "
            f"cpu.{hint}"
        )
    if kind != "cuda":
        check_available(wanted)
        return wanted, ""
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found == 0:
        return "cpu", "no GPU found: the CPU is used"
    if index and int(index) >= found:
        raise ConfigError(
            f"MODEL.DEVICE (--device) {wanted}: this machine has {found} GPUs, counted from 0."
        )
    if num_gpus > found:
        raise ConfigError(
            f"--num-gpus {num_gpus}: this machine has {found}. Give at most that, or "
            "MODEL.DEVICE cpu."
        )
    return wanted, ""


def check_available(wanted: str) -> None:
    """Raise a ConfigError if PyTorch finds no device of the wanted kind, such as "cuda:1".

    For a device that someone asks for. The GPU of Detectron2's defaults is another matter: see
    `choose_device`.
    """
    found: dict[str, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
        "xpu": torch.xpu.is_available,
    }
    kind = wanted.partition(":")[0]
    if kind in found and not found[kind]():
        raise ConfigError(
            f"MODEL.DEVICE (--device) {wanted}: PyTorch {torch.__version__} finds no such device "
            "on this machine. Leave it out to use what there is, or give cpu."
        )


def native_bfloat16(device: str) -> bool:
    """Return true if "cuda" or "cpu" computes in bfloat16 without emulation."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: Mapping[str, object] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # missing in torch 2.10
    return bool(capabilities.get("avx512_bf16") or capabilities.get("bf16"))


def wrap_model(model: torch.nn.Module, find_unused: bool = False) -> torch.nn.Module:
    """Wrap a model in DistributedDataParallel if there are several processes.

    Args:
        find_unused: look for parameters that losses do not depend on, in every iteration.
    """
    if comm.get_world_size() == 1:
        return model
    on_gpu = next(model.parameters()).is_cuda
    # Buffers are not broadcast, as in Detectron2: statistics of batch norms stay per process.
    return torch.nn.parallel.DistributedDataParallel(
        model,
        device_ids=[comm.get_local_rank()] if on_gpu else None,
        broadcast_buffers=False,
        find_unused_parameters=find_unused,
    )
