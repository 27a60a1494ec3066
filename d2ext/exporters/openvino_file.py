"""OpenVINO files: converted from ONNX files, run on the CPU."""

from pathlib import Path
from typing import Any

import openvino
import torch
from torch import Tensor

from d2ext.errors import ConfigError, WeightsError
from d2ext.exporters.onnx_session import METADATA_KEY, Run, open_session

_INFO = ["d2ext", METADATA_KEY]  # where OpenVINO keeps what converters add


def save_openvino(source: Path, path: Path) -> None:
    """Convert an ONNX file, its metadata included, to `path` and a .bin file beside it.

    Raises:
        ConfigError: OpenVINO has no counterpart of an operator in it.
    """
    try:
        model = openvino.convert_model(source)
    except Exception as error:  # the frontend's own classes are not public
        reason = next(filter(None, map(str.strip, str(error).splitlines()[::-1])), "")
        raise ConfigError(
            f"--format openvino: OpenVINO {openvino.__version__} cannot convert it: {reason}"
        ) from error
    metadata = open_session(source).get_modelmeta().custom_metadata_map[METADATA_KEY]
    model.set_rt_info(metadata, _INFO)
    openvino.save_model(model, path, compress_to_fp16=False)


def open_openvino(path: Path, threads: int) -> tuple[Run, str]:
    """Compile a file for the CPU, in float32, as a function of (B, 3, H, W) pixels.

    Returns:
        The function, and the JSON that `save_openvino` stored; "" if there is none.
    Raises:
        WeightsError: OpenVINO cannot read or run it.
    """
    # Where the CPU has bfloat16, OpenVINO would take it unasked.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    core = openvino.Core()
    try:
        model = _read(core, path)
        compiled = core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise WeightsError(f"{path}: OpenVINO cannot run it: {error}") from error

    def run(images: Tensor) -> tuple[Tensor, ...]:
        found = compiled({"images": images.numpy()})
        return tuple(torch.from_numpy(found[output].copy()) for output in compiled.outputs)

    return run, str(model.get_rt_info(_INFO).value) if model.has_rt_info(_INFO) else ""


def _read(core: openvino.Core, path: Path) -> openvino.Model:
    try:
        return core.read_model(path)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise WeightsError(f"{path}: OpenVINO cannot read it: {reason}") from error
