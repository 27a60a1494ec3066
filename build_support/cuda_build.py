"""Compiling CUDA sources with nvcc: whether, for which GPUs, and how."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

WITHOUT_A_GPU = "8.0 8.6 8.9 9.0+PTX"  # Ampere to Hopper, and what comes later by translation


def is_wanted() -> bool:
    """FORCE_CUDA=1 says so; otherwise there is a GPU to run on, and nvcc."""
    forced = os.environ.get("FORCE_CUDA", "")
    return forced == "1" if forced else bool(toolkit() and _present_architectures())


def jobs() -> int:
    """How many compilers run at a time: MAX_JOBS, or one for each core."""
    return int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)


def toolkit() -> Path | None:
    """Folder of the CUDA toolkit: CUDA_HOME, or where nvcc is found if that is not a wrapper."""
    named = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    if named:
        return Path(named)
    nvcc = shutil.which("nvcc")
    found = [Path(nvcc).resolve().parents[1]] if nvcc else []
    found.append(Path("/usr/local/cuda"))
    return next((home for home in found if (home / "include/cuda_runtime.h").exists()), None)


def compile_all(
    sources: list[str], folder: str, includes: list[str], macros: list[tuple[str, str]]
) -> list[str]:
    """Compile each source to an object in `folder`; returns the objects.

    Raises:
        OSError: there is no toolkit, or nvcc refused a source. What it says goes to the terminal.
    """
    home = toolkit()
    if home is None:
        raise OSError("there is no nvcc: install the CUDA toolkit, or set CUDA_HOME to its folder")
    flags = ["-O3", "-std=c++17", "--expt-relaxed-constexpr", "--extended-lambda", *_targets()]
    flags += ["-Xcompiler", "/MD" if os.name == "nt" else "-fPIC"]
    flags += [f"-I{folder}" for folder in includes] + [
        f"-D{name}={value}" for name, value in macros
    ]

    def compile_one(source: str) -> str:
        target = Path(folder) / source.replace("/", "-").replace("\\", "-")
        target = target.with_suffix(".cu.obj" if os.name == "nt" else ".cu.o")
        target.parent.mkdir(parents=True, exist_ok=True)
        command = [str(home / "bin" / "nvcc"), "-c", source, "-o", str(target), *flags]
        if subprocess.run(command).returncode:
            raise OSError(f"nvcc does not compile {source}")
        return str(target)

    with ThreadPoolExecutor(jobs()) as pool:
        return list(pool.map(compile_one, sources))


def _targets() -> list[str]:
    """nvcc's flags for TORCH_CUDA_ARCH_LIST, such as "8.0;9.0+PTX"; by default for this GPU."""
    listed = os.environ.get("TORCH_CUDA_ARCH_LIST")
    listed = listed or " ".join(_present_architectures()) or WITHOUT_A_GPU
    flags = []
    for name in re.split(r"[;,\s]+", listed.strip()):
        match = re.fullmatch(r"(\d+)\.(\d[af]?)(\+PTX)?", name)
        if match is None:
            raise OSError(f"TORCH_CUDA_ARCH_LIST: {name!r} is not of the form 9.0 or 9.0+PTX")
        number = match[1] + match[2]
        flags.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if match[3]:
            flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return flags


def _present_architectures(run: Callable = subprocess.run) -> list[str]:
    """Compute capabilities of this machine's GPUs, as "9.0"."""
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        answer = run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return sorted({line.strip() for line in answer.splitlines() if line.strip()})
