"""Compilation of CUDA sources with nvcc: whether to compile, for which GPUs, and how."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Turing to Blackwell, as far as the compiler knows them. Code for one GPU runs on later ones of its
# major version, that for 10.0 on 10.3 and that for 12.0 on 12.1; 8.6 and 8.9 have more float units
# than 8.0. Later major versions get the last one's PTX, which the driver translates. Boards with a
# GPU of their own numbering (8.7, 11.0) compile for the GPU that they have.
WITHOUT_A_GPU = ("7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0")


def is_wanted() -> bool:
    """Return whether to build for CUDA: as FORCE_CUDA says, else if there are a GPU and nvcc."""
    forced = os.environ.get("FORCE_CUDA", "")
    return forced == "1" if forced else bool(toolkit() and _present_architectures())


def jobs() -> int:
    """Return how many compilers run at a time: MAX_JOBS, or one per core."""
    return int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)


def toolkit() -> Path | None:
    """Return the folder of the CUDA toolkit, CUDA_HOME or where nvcc is found, or None."""
    named = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    if named:
        return Path(named)
    # Resolved, since nvcc may be a link into the toolkit. If it is a wrapper script, there is no
    # header two folders up, and the usual place is tried.
    nvcc = shutil.which("nvcc")
    found = [Path(nvcc).resolve().parents[1]] if nvcc else []
    found.append(Path("/usr/local/cuda"))
    return next((home for home in found if (home / "include/cuda_runtime.h").exists()), None)


def compile_all(
    sources: list[str], folder: str, includes: list[str], macros: list[tuple[str, str]]
) -> list[str]:
    """Compile each source to an object in `folder`, in parallel, and return the objects.

    Args:
        includes: folders of headers.
        macros: (name, value) pairs to define.
    Raises:
        OSError: there is no toolkit, or nvcc rejects a source; its output goes to the terminal.
    """
    home = toolkit()
    if home is None:
        raise OSError(
            "nvcc was not found: install the CUDA toolkit, or set CUDA_HOME to its folder"
        )
    flags = ["-O3", "-std=c++17", "--expt-relaxed-constexpr", "--extended-lambda", *_targets()]
    flags += ["-Xcompiler", "/MD" if os.name == "nt" else "-fPIC"]
    flags += [f"-I{folder}" for folder in includes] + [
        f"-D{name}={value}" for name, value in macros
    ]

    def compile_one(source: str) -> str:
        # Sources of different operators have the same file name.
        target = Path(folder) / source.replace("/", "-").replace("\\", "-")
        target = target.with_suffix(".cu.obj" if os.name == "nt" else ".cu.o")
        target.parent.mkdir(parents=True, exist_ok=True)
        command = [str(home / "bin" / "nvcc"), "-c", source, "-o", str(target), *flags]
        if subprocess.run(command).returncode:
            raise OSError(f"nvcc does not compile {source}: see its messages above")
        return str(target)

    with ThreadPoolExecutor(jobs()) as pool:
        return list(pool.map(compile_one, sources))


def _targets() -> list[str]:
    """Return nvcc's flags for TORCH_CUDA_ARCH_LIST ("8.0;9.0+PTX"), by default for this GPU."""
    listed = os.environ.get("TORCH_CUDA_ARCH_LIST")
    listed = listed or " ".join(_present_architectures() or _known_architectures())
    if not listed:
        raise OSError("nvcc lists no GPU that is known: set TORCH_CUDA_ARCH_LIST, such as 9.0")
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


def _known_architectures(run: Callable = subprocess.run) -> list[str]:
    """Return those of WITHOUT_A_GPU that nvcc compiles for, the last one also as PTX."""
    home = toolkit()
    nvcc = "nvcc" if home is None else str(home / "bin/nvcc")
    answer = run([nvcc, "--list-gpu-code"], capture_output=True, text=True).stdout
    known = [one for one in WITHOUT_A_GPU if f"sm_{one.replace('.', '')}" in answer.split()]
    return [*known[:-1], *(f"{one}+PTX" for one in known[-1:])]


def _present_architectures(run: Callable = subprocess.run) -> list[str]:
    """Return the compute capabilities of this machine's GPUs, such as "9.0"."""
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        answer = run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return sorted({line.strip() for line in answer.splitlines() if line.strip()})
