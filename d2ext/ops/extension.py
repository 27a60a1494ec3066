"""The compiled kernels: loaded if they are there, and a line that says so if they are not.

`D2EXT_EXTENSION=off` in the environment leaves them out, for tests.
"""

import logging
import multiprocessing
import os
from pathlib import Path

import torch

PACKAGE = Path(__file__).parents[1]
ENVIRONMENT_VARIABLE = "D2EXT_EXTENSION"

_logger = logging.getLogger(__name__)


def load_extension() -> str:
    """Register the compiled kernels with PyTorch's dispatcher and say in one line what is in use.

    Without them the operators' references run. The first process of a run also logs the line if
    kernels are missing or do not load.

    Raises:
        ImportError: the environment variable is neither empty nor "off".
    """
    setting = os.environ.get(ENVIRONMENT_VARIABLE, "")
    if setting not in ("", "off"):
        raise ImportError(f"{ENVIRONMENT_VARIABLE}={setting}: the only value is 'off'.")
    if setting == "off":
        return f"operators: plain PyTorch, {ENVIRONMENT_VARIABLE}=off"
    binary = _binary()
    if binary is None:
        return _complain(
            "operators: plain PyTorch; deformable convolutions of large images take about twice as "
            f"long. The compiled ones need a C++ compiler and one command: {_rebuild_command()}"
        )
    try:
        torch.ops.load_library(str(binary))
    except OSError as error:
        reason = str(error).splitlines()[0]
        return _complain(
            f"operators: plain PyTorch, because {binary} does not load ({reason}). "
            f"Rebuild it: {_rebuild_command()}"
        )
    return f"operators: compiled for {'CPU and CUDA' if _load_cuda_kernels() else 'CPU'}"


def _load_cuda_kernels() -> bool:
    """A library of its own: it needs a PyTorch that was built for CUDA, though no GPU."""
    binary = _binary("_C_cuda")
    if binary is None or torch.version.cuda is None:
        return False
    try:
        torch.ops.load_library(str(binary))
    except OSError as error:
        _complain(
            f"operators on CUDA: plain PyTorch, because {binary} does not load "
            f"({str(error).splitlines()[0]}). Rebuild it: {_rebuild_command()}"
        )
        return False
    return True


def _binary(name: str = "_C") -> Path | None:
    found = (path for path in sorted(PACKAGE.glob(f"{name}.*")) if path.suffix in (".so", ".pyd"))
    return next(found, None)


def _rebuild_command() -> str:
    checkout = PACKAGE.parent
    if (checkout / "setup.py").is_file():
        return f"cd {checkout} && python setup.py build_ext --inplace"
    return "pip install --force-reinstall --no-deps, from the sources of d2ext"


def _complain(line: str) -> str:
    first_process = multiprocessing.parent_process() is None
    if first_process and os.environ.get("LOCAL_RANK", "0") == "0":
        _logger.warning(line)
    return line
