"""Writing a module in each format, and running what was written."""

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from d2ext.errors import ConfigError, WeightsError
from d2ext.exporters.exported_module import ExportedModule
from d2ext.exporters.torch_export import OperatorSubstitution, export_program

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torchscript": ".pt", "torch_export": ".pt2"}
ONNX_BASED = ("onnx", "openvino")
_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
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
        if kind in ONNX_BASED:
            need_packages(kind)
        program = export_program(module, images, free_size)
        if kind == "torch_export":
            torch.export.save(program, path, extra_files=extra)
            return
        # These need packages that training does not.
        from d2ext.exporters.onnx_file import save_onnx

        properties = {METADATA_KEY: extra[METADATA]}
        if kind == "onnx":
            save_onnx(program, module.output_names, properties, path)
            return
        from d2ext.exporters.openvino_file import save_openvino

        with TemporaryDirectory() as folder:
            source = Path(folder) / "model.onnx"
            save_onnx(program, module.output_names, properties, source)
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
    """Load a file as a function from (B, 3, H, W) float32 pixels to the tuple of outputs.

    Args:
        threads: of onnxruntime or OpenVINO; 0 leaves their number to it.
    Raises:
        WeightsError: the file cannot be read or run.
        ConfigError: a package that the format needs is missing.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such file.")
    if kind == "openvino":
        need_packages(kind)
        from d2ext.exporters.openvino_file import open_openvino

        return open_openvino(path, threads)
    if kind == "onnx":
        need_packages(kind)
        session = open_session(path, threads)
        return lambda images: tuple(
            torch.from_numpy(array) for array in session.run(None, {"images": images.numpy()})
        )
    with _readable(path):
        if kind == "torchscript":
            return torch.jit.load(str(path))
        module = torch.export.load(path).module()
    return lambda images: tuple(module(images))


def load_metadata(path: Path, kind: str) -> dict[str, Any]:
    """Load the metadata of a file; empty if it has none.

    Raises:
        WeightsError: the file cannot be read.
    """
    extra = {METADATA: ""}
    if kind == "openvino":
        from d2ext.exporters.openvino_file import openvino_metadata

        extra[METADATA] = openvino_metadata(path)
    elif kind == "onnx":
        properties = open_session(path).get_modelmeta().custom_metadata_map
        extra[METADATA] = properties.get(METADATA_KEY, "")
    else:
        with _readable(path):
            if kind == "torchscript":
                torch.jit.load(str(path), _extra_files=extra)
            else:
                torch.export.load(path, extra_files=extra)
    return json.loads(extra[METADATA] or "{}")


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
