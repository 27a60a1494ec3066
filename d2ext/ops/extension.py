"""Loading of the compiled kernels, and one line of text that says which ones are in use.

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
    """Load the compiled kernels into PyTorch's dispatcher.

    A library that is missing or does not load is no error, since the references take over: they
    cost speed, not function. The main process then logs the line as a warning.

    Returns:
        One line that says which kernels run and, if some are missing, how to build them.
    Raises:
        ImportError: the environment variable is neither empty nor "off".
    """
    setting = os.environ.get(ENVIRONMENT_VARIABLE, "")
    if setting not in ("", "off"):
        raise ImportError(
            f"{ENVIRONMENT_VARIABLE}={setting}: the only value is 'off'. Unset it to load the "
            "compiled kernels."
        )
    if setting == "off":
        return f"operators: plain PyTorch, {ENVIRONMENT_VARIABLE}=off"
    binary = _binary()
    if binary is None:
        return _warn(
            "operators: plain PyTorch; deformable convolutions of large images take about twice as "
            "long, attention and rotated boxes many times. The compiled ones need a C++ compiler "
            f"and one command: {_rebuild_command()}"
        )
    reason = _load(binary)
    if reason is not None:
        return _warn(
            f"operators: plain PyTorch, because {reason}. Rebuild it: {_rebuild_command()}"
        )
    return _load_cuda_kernels()


@torch.compiler.assume_constant_result  # `torch.compile` cannot trace the look-up
def is_compiled(operator: str) -> bool:
    """Return true if d2ext::`operator` has a compiled kernel for CPUs."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(f"d2ext::{operator}", "CPU")


def _load_cuda_kernels() -> str:
    """Load the CUDA kernels where PyTorch was built for CUDA, and return the line on what is used.

    They are a library of their own, since it loads only into a PyTorch with CUDA. No GPU is needed.
    """
    binary = _binary("_C_cuda")
    if torch.version.cuda is None or (binary is None and not _has_driver()):
        return "operators: compiled for CPU"
    reason = "its kernels were not built, which takes nvcc" if binary is None else _load(binary)
    if reason is None:
        return "operators: compiled for CPU and CUDA"
    return _warn(
        f"operators: compiled for CPU; plain and slower on CUDA, because {reason}. "
        f"Build them: {_rebuild_command()}"
    )


def _has_driver() -> bool:
    # NVIDIA's driver brings this command. `torch.cuda.is_available()` would initialise CUDA, after
    # which a forked data loader can't use it.
    return shutil.which("nvidia-smi") is not None


def _load(binary: Path) -> str | None:
    """Load a library into PyTorch and return the reason if that fails, otherwise None."""
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


def _warn(line: str) -> str:
    # Data loader workers and other ranks import this module too: one warning per run is enough.
    is_main_process = multiprocessing.parent_process() is None
    if is_main_process and os.environ.get("LOCAL_RANK", "0") == "0":
        _logger.warning(line)
    return line
