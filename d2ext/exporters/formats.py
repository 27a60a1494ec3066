"""Writing a module in each format, and running what was written."""

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from d2ext.errors import ConfigError, WeightsError
from d2ext.exporters.exported_module import ExportedModule
from d2ext.exporters.onnx_session import METADATA_KEY, Run, open_onnx
from d2ext.exporters.torch_export import OperatorSubstitution, export_program

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torchscript": ".pt", "torch_export": ".pt2"}
ONNX_BASED = ("onnx", "openvino")
_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
METADATA = "metadata.json"  # the extra file of PyTorch's formats


def save(
    module: ExportedModule,
    images: Tensor,
    free_size: bool,
    metadata: dict[str, Any],
    kind: str,
    path: Path,
) -> None:
    """Write `module` as `kind`, one of `SUFFIXES`.

    Args:
        images: (B, 3, H, W) with B > 1, to run it once.
        free_size: allow images of other sizes.
    Raises:
        ConfigError: the model does not allow a free size, or a package is missing.
    """
    text = json.dumps(metadata)
    with torch.no_grad(), _quiet():
        if kind == "torchscript":
            with OperatorSubstitution():
                traced = torch.jit.trace(module, images, check_trace=False)
            torch.jit.save(traced, str(path), _extra_files={METADATA: text})
            return
        if kind in ONNX_BASED:
            need_packages(kind)
        program = export_program(module, images, free_size)
        if kind == "torch_export":
            torch.export.save(program, path, extra_files={METADATA: text})
        else:
            _save_onnx_based(program, module.output_names, text, kind, path)


def _save_onnx_based(
    program: torch.export.ExportedProgram, names: Sequence[str], text: str, kind: str, path: Path
) -> None:
    # These need packages that training does not.
    from d2ext.exporters.onnx_file import save_onnx

    properties = {METADATA_KEY: text}
    if kind == "onnx":
        save_onnx(program, names, properties, path)
        return
    from d2ext.exporters.openvino_file import save_openvino

    with TemporaryDirectory() as folder:
        source = Path(folder) / "model.onnx"
        save_onnx(program, names, properties, source)
        save_openvino(source, path)


def format_of(path: Path) -> str:
    """Return the format that a file's suffix names.

    Raises:
        ConfigError: it names none.
    """
    for kind, suffix in SUFFIXES.items():
        if path.suffix.lower() == suffix:
            return kind
    raise ConfigError(
        f"{path}: not the name of an exported file; those end in {', '.join(SUFFIXES.values())}."
    )


def file_size(path: Path) -> int:
    """Return the bytes of an exported file, OpenVINO's weights beside it included."""
    parts = [path, path.with_suffix(".bin")] if format_of(path) == "openvino" else [path]
    return sum(part.stat().st_size for part in parts if part.exists())


def load(path: Path, kind: str, threads: int = 0) -> Run:
    """Load a file as `load_with_metadata` does, for its function alone."""
    return load_with_metadata(path, kind, threads)[0]


def load_with_metadata(path: Path, kind: str, threads: int = 0) -> tuple[Run, dict[str, Any]]:
    """Load a file as a function from (B, 3, H, W) float32 pixels to the tuple of outputs.

    Args:
        threads: of onnxruntime or OpenVINO; 0 leaves their number to it.
    Returns:
        The function, and the file's metadata, empty if it has none.
    Raises:
        WeightsError: the file cannot be read or run.
        ConfigError: a package that the format needs is missing.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such file.")
    need_packages(kind)
    run, text = _load_onnx_based(path, kind, threads) if kind in ONNX_BASED else _load(path, kind)
    return run, json.loads(text or "{}")


def _load_onnx_based(path: Path, kind: str, threads: int) -> tuple[Run, str]:
    if kind == "onnx":
        return open_onnx(path, threads)
    from d2ext.exporters.openvino_file import open_openvino

    return open_openvino(path, threads)


def _load(path: Path, kind: str) -> tuple[Run, str]:
    extra = {METADATA: ""}
    with _readable(path):
        if kind == "torchscript":
            run: Run = torch.jit.load(str(path), _extra_files=extra)
            return run, extra[METADATA]
        module = torch.export.load(path, extra_files=extra).module()
    return lambda images: tuple(module(images)), extra[METADATA]


def need_packages(kind: str) -> None:
    """Raise a ConfigError if a package that files of a format need is missing."""
    needed = [*_ONNX_PACKAGES, *(["openvino"] if kind == "openvino" else [])]
    for package in needed if kind in ONNX_BASED else []:
        try:
            import_module(package)
        except ImportError as error:
            raise ConfigError(
                f"--format {kind} needs the package {error.name}: pip install {' '.join(needed)}"
            ) from error


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn PyTorch's many errors of files that it cannot read into one message."""
    try:
        yield
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(f"{path}: PyTorch cannot read it: {reason}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters' and tracers' warnings; what is written is checked by running it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
