"""Writing a module in each format, and running what was written."""

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from d2ext.errors import ConfigError, WeightsError
from d2ext.exporters.exported_module import ExportedModule
from d2ext.exporters.torch_export import OperatorSubstitution, export_program

SUFFIXES = {"onnx": ".onnx", "torchscript": ".pt", "torch_export": ".pt2"}
METADATA = "metadata.json"  # the extra file of PyTorch's formats
METADATA_KEY = "metadata"  # the property of ONNX files
Run = Callable[[Tensor], tuple[Tensor, ...]]


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
    extra = {METADATA: json.dumps(metadata)}
    with torch.no_grad(), _quiet():
        if kind == "torchscript":
            with OperatorSubstitution():
                traced = torch.jit.trace(module, images, check_trace=False)
            torch.jit.save(traced, str(path), _extra_files=extra)
            return
        if kind == "onnx":
            need_onnx()
        program = export_program(module, images, free_size)
        if kind == "torch_export":
            torch.export.save(program, path, extra_files=extra)
        else:
            from d2ext.exporters.onnx_file import save_onnx  # needs packages that training does not

            save_onnx(program, module.output_names, {METADATA_KEY: extra[METADATA]}, path)


def load(path: Path, kind: str) -> Run:
    """Load a file as a function from (B, 3, H, W) float32 pixels to the tuple of outputs."""
    if kind == "torchscript":
        return torch.jit.load(str(path))
    if kind == "torch_export":
        module = torch.export.load(path).module()
        return lambda images: tuple(module(images))
    session = open_session(path)
    return lambda images: tuple(
        torch.from_numpy(array) for array in session.run(None, {"images": images.numpy()})
    )


def open_session(path: Path, threads: int = 0) -> Any:
    """Open an onnxruntime session on the CPU.

    Args:
        threads: number of threads; 0 leaves it to onnxruntime.
    Raises:
        WeightsError: onnxruntime cannot read or run the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class for each of its states
        raise WeightsError(
            f"{path}: onnxruntime {onnxruntime.__version__} cannot run it: {error}"
        ) from error


def need_onnx() -> None:
    """Raise a ConfigError if a package that ONNX files need is missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"--format onnx needs the package {error.name}: pip install onnx onnxscript onnxruntime"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters' and tracers' warnings; what is written is checked by running it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
