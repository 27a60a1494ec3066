"""Information about the environment for bug reports."""

import importlib.metadata
import os
import platform
import re
import subprocess
import sys

import torch
from tabulate import tabulate

import detectron2

__all__ = ["collect_env_info"]

ENV_MODULE = "DETECTRON2_ENV_MODULE"
PACKAGES = ("numpy", "torchvision", "Pillow", "fvcore", "iopath", "pycocotools")


def collect_env_info() -> str:
    """Return a table of versions and devices, and how torch was built."""
    folder = os.path.dirname(detectron2.__file__)
    rows = [
        ("sys.platform", sys.platform),
        ("Python", platform.python_version()),
        ("detectron2", f"{detectron2.__version__} @{folder}"),
        ("PyTorch", f"{torch.__version__} @{os.path.dirname(torch.__file__)}"),
        *_gpus(),
        *((package, _version(package)) for package in PACKAGES),
        ("cv2", _opencv_version()),
        get_env_module(),
    ]
    return f"{tabulate(rows)}\n{collect_torch_env()}"


def collect_torch_env() -> str:
    """Return how PyTorch was built."""
    return torch.__config__.show()


def get_env_module() -> tuple[str, str]:
    """Return the name and value of the variable that names a module of the user's set-up."""
    return ENV_MODULE, os.environ.get(ENV_MODULE, "<not set>")


def detect_compute_compatibility(CUDA_HOME: str, so_file: str) -> str:
    """Return the GPU architectures that a library was compiled for, by CUDA's cuobjdump."""
    tool = os.path.join(CUDA_HOME, "bin", "cuobjdump")
    if not os.path.isfile(tool):
        return f"{so_file}; cannot find cuobjdump"
    listing = subprocess.run(
        [tool, "--list-elf", so_file], capture_output=True, text=True, check=False
    )
    architectures = sorted({f"{a}.{b}" for a, b in re.findall(r"\.sm_(\d+)(\d)", listing.stdout)})
    return ", ".join(architectures) or f"{so_file}; no code for a GPU"


def _gpus() -> list[tuple[str, str]]:
    if not torch.cuda.is_available():
        return [("GPU available", "No: torch.cuda.is_available() == False")]
    devices = range(torch.cuda.device_count())
    return [
        ("GPU available", "Yes"),
        ("CUDA of PyTorch", str(torch.version.cuda)),
        *((f"GPU {index}", _gpu(index)) for index in devices),
    ]


def _gpu(index: int) -> str:
    major, minor = torch.cuda.get_device_capability(index)
    return f"{torch.cuda.get_device_name(index)} (arch={major}.{minor})"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _opencv_version() -> str:
    # It comes under several distribution names.
    try:
        import cv2
    except ImportError:
        return "not installed"
    return cv2.__version__


if __name__ == "__main__":
    print(collect_env_info())
