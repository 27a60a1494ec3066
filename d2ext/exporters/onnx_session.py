"""Running ONNX files by onnxruntime."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from d2ext.errors import WeightsError

METADATA_KEY = "metadata"  # the property of ONNX files
Run = Callable[[Tensor], tuple[Tensor, ...]]


def open_session(path: Path, threads: int = 0) -> Any:
    """Open an onnxruntime session on the CPU.

    Args:
        threads: number of threads; 0 leaves it to onnxruntime.
    Raises:
        WeightsError: onnxruntime cannot read or run the file.
    """
    import onnxruntime  # a package that training does not need

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class for each of its states
        raise WeightsError(
            f"{path}: onnxruntime {onnxruntime.__version__} cannot run it: {error}"
        ) from error


def open_onnx(path: Path, threads: int = 0) -> tuple[Run, str]:
    """Open an ONNX file; return it as a function of images, and its metadata as JSON text."""
    session = open_session(path, threads)

    def run(images: Tensor) -> tuple[Tensor, ...]:
        return tuple(map(torch.from_numpy, session.run(None, {"images": images.numpy()})))

    return run, session.get_modelmeta().custom_metadata_map.get(METADATA_KEY, "")
