"""The compiled kernels: loaded if they are there, and a line that says so if they are not.

`D2EXT_EXTENSION=off` in the environment leaves them out, for tests.
"""

import logging
import multiprocessing
import os
import shutil
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
            "long, attention and rotated boxes many times. The compiled ones need a C++ compiler "
            f"and one command: {_rebuild_command()}"
        )
    reason = _load(binary)
    if reason is not None:
        return _complain(
            f"operators: plain PyTorch, because {reason}. Rebuild it: {_rebuild_command()}"
        )
    return _load_cuda_kernels()


def _load_cuda_kernels() -> str:
    """A library of its own: it needs a PyTorch that was built for CUDA, though no GPU."""
    binary = _binary("_C_cuda")
    if torch.version.cuda is None or (binary is None and not _has_driver()):
        return "operators: compiled for CPU"
    reason = "its kernels were not built, which takes nvcc" if binary is None else _load(binary)
    if reason is None:
        return "operators: compiled for CPU and CUDA"
    return _complain(
        f"operators: compiled for CPU; plain and slower on CUDA, because {reason}. "
        f"Build them: {_rebuild_command()}"
    )


def _has_driver() -> bool:
    """NVIDIA's, which brings this command. Asking PyTorch for GPUs would start CUDA."""
    return shutil.which("nvidia-smi") is not None


def _load(binary: Path) -> str | None:
    """Returns why not, if it does not load."""
    try:
        torch.ops.load_library(str(binary))
    except OSError as error:
        return f"{binary} does not load ({str(error).splitlines()[0]})"
    return None


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
