"""Which device a process trains on."""

from collections.abc import Mapping

import torch

from d2ext.errors import ConfigError
from detectron2.utils import comm


def choose_device(wanted: str, num_gpus: int = 1) -> tuple[str, str]:
    """The device for MODEL.DEVICE `wanted` and a line for the log, "" if there is nothing to say.

    Args:
        wanted: "cuda", "cuda:1", "cpu"...
        num_gpus: processes that are wanted on this machine.
    Raises:
        ConfigError: there are GPUs, but fewer than `num_gpus`.
    """
    if not wanted.startswith("cuda"):
        return wanted, ""
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found == 0:
        return "cpu", "no GPU found: the CPU is used"
    if num_gpus > found:
        raise ConfigError(
            f"--num-gpus {num_gpus}: this machine has {found}. Give at most that, or "
            "MODEL.DEVICE cpu."
        )
    return wanted, ""


def native_bfloat16(device: str) -> bool:
    """Whether "cuda" or "cpu" computes in bfloat16 without emulating it."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: Mapping[str, object] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # newer than torch 2.10
    return bool(capabilities.get("avx512_bf16") or capabilities.get("bf16"))


def wrap_model(model: torch.nn.Module) -> torch.nn.Module:
    """The model as every process trains it: in DistributedDataParallel if there are several."""
    if comm.get_world_size() == 1:
        return model
    on_gpu = next(model.parameters()).is_cuda
    return torch.nn.parallel.DistributedDataParallel(
        model, device_ids=[comm.get_local_rank()] if on_gpu else None, broadcast_buffers=False
    )
