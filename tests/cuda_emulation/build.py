"""Build of the emulated kernels with g++: what did not change since the last build is kept."""

import hashlib
import importlib.util
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.cuda_emulation.translate import translate_all

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "d2ext/csrc"
STABLE_SINCE = "0x020a000000000000"  # as in setup.py


def build(folder: Path, *, checked: bool, csrc: Path = CSRC, only: str = "") -> Path:
    """Build the library of the emulated kernels in `folder`, and return its path.

    Args:
        checked: watch every access to memory: see watch.cpp. It emulates a GPU before compute
            capability 9.0, the other build a later one, since kernels branch on it.
        csrc: the CUDA sources.
        only: the one operator to build; all, if empty.
    Raises:
        OSError: there is no g++ on x86-64, or it rejects a source; its output goes to the terminal.
    """
    if platform.machine() not in ("x86_64", "AMD64") or shutil.which("g++") is None:
        raise OSError("the emulator of CUDA kernels needs g++ on x86-64")
    folder = folder / ("checked" if checked else "quick")
    kernels = [path for path in translate_all(csrc, folder) if only in ("", path.parent.name)]
    flags = [*_flags(folder), f"-DEMULATED_ARCH={800 if checked else 900}"]
    watched = [*flags, *(["-fsanitize=thread", "-g1"] if checked else [])]
    prefix = _compile(HERE / "include/prefix.h", watched, folder, "c++-header")
    # First, so that the linker takes inline functions that are not watched from these.
    jobs = [(HERE / name, flags) for name in ["scheduler.cpp", *["watch.cpp"] * checked]]
    jobs += [(path, [*watched, "-include", prefix.removesuffix(".gch")]) for path in kernels]
    with ThreadPoolExecutor() as pool:
        objects = list(pool.map(lambda job: _compile(*job, folder), jobs))
    library = folder / f"{_key(*objects)}.so"
    if not library.exists():
        link = [f"-L{_pytorch() / 'lib'}", "-ltorch_cpu", "-lc10", "-o", str(library)]
        _run("g++", "-shared", *objects, *link)
    return library


def _pytorch() -> Path:
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _flags(folder: Path) -> list[str]:
    pytorch = _pytorch() / "include"
    includes = [folder, HERE / "include", pytorch, pytorch / "torch/csrc/api/include"]
    options = ["-std=c++17", "-O0", "-fPIC", "-fvisibility=hidden", "-w"]
    return [*options, f"-DTORCH_TARGET_VERSION={STABLE_SINCE}", *(f"-I{path}" for path in includes)]


def _compile(source: Path, flags: list[str], folder: Path, language: str = "c++") -> str:
    """Compile, unless that was done before with the same texts and flags; return the object."""
    headers = [path for root in (folder, HERE) for path in sorted(root.rglob("*.h"))]
    key = _key(*(path.read_text() for path in [*headers, source]), *flags)
    name = f"{source.parent.name}_{source.stem}_{key}"
    target = folder / (f"{name}.h.gch" if language == "c++-header" else f"{name}.o")
    if not target.exists():
        _run("g++", *flags, "-x", language, "-c", str(source), "-o", str(target))
    return str(target)


def _key(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def _run(*command: str) -> None:
    if subprocess.run(command).returncode:
        raise OSError(f"a command failed, see its messages above: {' '.join(command)}")
