"""Translation of CUDA sources to C++ for the emulator; line numbers stay as they are."""

import re
from pathlib import Path

# A kernel's name, perhaps with template arguments, at the start of a statement.
_LAUNCH = re.compile(r"(?<=[;{}\n])(\s*)([\w:]+(?:<[^;{}<>]*>)?)\s*<<<(.*?)>>>\s*\(", re.DOTALL)
_SHARED = re.compile(r"__shared__\s+([\w:<>, ]+?)\s+(\w+)((?:\[[^\]]+\])*)\s*;")
_WORDS = {
    "torch::stable::accelerator::DeviceGuard": "::emulated::Guard",
    "STD_CUDA_KERNEL_LAUNCH_CHECK": "::emulated::check_launch",
    "STABLE_TORCH_LIBRARY_IMPL(d2ext, CUDA,": "STABLE_TORCH_LIBRARY_IMPL(d2ext, CPU,",
    "__CUDA_ARCH__": "EMULATED_ARCH",
}
# Work is cut so finely that the tests' small inputs take several tiles, chunks and rounds.
_SMALL = {
    "cuda.h": {"int64_t(1) << 30": "3"},  # blocks of a launch
    "deform_conv2d/cuda.cu": {
        "kTileBytes = 32 << 20": "kTileBytes = 1",
        "kRowBlock = 128": "kRowBlock = 7",
    },
    "deform_conv2d/kernels.h": {"kChunk = 64": "kChunk = 32"},
    "nms_rotated/cuda.cu": {
        "kTableBytes = 64 << 20": "kTableBytes = 12 << 10",
        "kShares = 8": "kShares = 16",
        "kColumns = 128": "kColumns = 2",
        "kDropRows = 512": "kDropRows = 64",
    },
    "roi_align/cuda.cu": {"kBins = 64": "kBins = 20"},
    "sigmoid_focal_loss/cuda.cu": {"kMostSums = 2048": "kMostSums = 2"},
}


def translate_all(csrc: Path, folder: Path) -> list[Path]:
    """Translate the headers and CUDA sources of `csrc` into `folder`, and return the sources."""
    sources = [path for path in sorted(csrc.rglob("*")) if path.suffix in (".h", ".cu")]
    for source in sources:
        name = source.relative_to(csrc)
        text = translate(source.read_text(), _SMALL.get(name.as_posix(), {}))
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f'#line 1 "csrc/{name.as_posix()}"\n{text}')
    return [folder / path.relative_to(csrc) for path in sources if path.suffix == ".cu"]


def translate(text: str, constants: dict[str, str]) -> str:
    """Translate one source.

    Raises:
        ValueError: a launch, a shared variable or a constant is not of the form that is expected.
    """
    for old, new in {**_WORDS, **constants}.items():
        if old in constants and old not in text:
            raise ValueError(f"there is no {old!r} to make smaller")
        text = text.replace(old, new)
    text = re.sub(r"(?<!\w)assert\((.*)\);", r'::emulated::require(\1, "\1");', text)
    text = _LAUNCH.sub(r'\1::emulated::launch("\2", {\3}, \2, ', text)
    text = _SHARED.sub(r"auto& \2 = ::emulated::shared<\1\3>();", text)
    for word in ("<<<", "__shared__"):
        if word in text:
            raise ValueError(f"a statement with {word} is not of a known form")
    return text
