"""Setup of the process: random seeds and library settings."""

import importlib
import importlib.util
import logging
import os
import random
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

__all__ = ["seed_all_rng"]

# Major and minor version.
TORCH_VERSION = tuple(int(part) for part in torch.__version__.split(".")[:2])


def seed_all_rng(seed: int | None = None) -> None:
    """Seed the random number generators of torch, NumPy and Python.

    Args:
        seed: at most 2**32 - 1; None draws one from the operating system.
    """
    if seed is None:
        seed = int.from_bytes(os.urandom(4), "little")
        logging.getLogger(__name__).info("Using a generated random seed %d", seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    random.seed(seed)
    os.environ["PYTHONHASHSEED"] = str(seed)  # for processes started from this one


def setup_environment() -> None:
    """Set up libraries and call the user's hook in $DETECTRON2_ENV_MODULE, once.

    The variable names a module, or a Python file, with a function `setup_environment()`.

    Raises:
        AttributeError: the module has no such function.
    """
    global _is_set_up
    if _is_set_up:
        return
    _is_set_up = True
    # OpenCV would take GPU memory for OpenCL, which data loading does not use.
    os.environ.setdefault("OPENCV_OPENCL_RUNTIME", "disabled")
    custom = os.environ.get("DETECTRON2_ENV_MODULE")
    if custom:
        setup_custom_environment(custom)


def setup_custom_environment(custom_module: str) -> None:
    """Call `setup_environment()` of a module given by name or by Python file."""
    _import(custom_module).setup_environment()


_is_set_up = False


def fixup_module_metadata(
    module_name: str, namespace: dict[str, Any], keys: Iterable[str] | None = None
) -> None:
    """Do nothing: packages call it for the sake of Detectron2's own documentation."""


def _import(name: str) -> ModuleType:
    if not name.endswith(".py"):
        return importlib.import_module(name)
    return _import_file(f"detectron2_env_{Path(name).stem}", name, make_importable=True)


def _import_file(
    module_name: str, file_path: str | os.PathLike, make_importable: bool = False
) -> ModuleType:
    """Import a Python file under a name, by which others can import it, too, if asked for."""
    spec = importlib.util.spec_from_file_location(module_name, file_path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file_path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    if make_importable:
        sys.modules[module_name] = module
    spec.loader.exec_module(module)
    return module
