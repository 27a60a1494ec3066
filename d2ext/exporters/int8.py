"""8-bit ONNX files by onnxruntime's static post-training quantisation."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

OPERATORS = ["Conv", "Gemm"]  # the rest is cheap, or computes boxes, which 8 bits cannot hold


def quantize(source: Path, target: Path, inputs: Iterable[np.ndarray]) -> None:
    """Quantise `source` to `target`, its metadata included.

    Weights have a scale per channel, activations one per tensor, from the least and the largest
    value that the `inputs` cause.

    Args:
        inputs: (B, 3, H, W) float32, as the file takes them.
    """
    metadata = {entry.key: entry.value for entry in onnx.load(source).metadata_props}
    with TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            _Reader(iter(inputs)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=OPERATORS,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,  # 7 bits of weight: products overflow on CPUs without VNNI
        )
    model = onnx.load(target)
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, target)


class _Reader(CalibrationDataReader):
    def __init__(self, inputs: Iterator[np.ndarray]) -> None:
        self.inputs = inputs

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next input by its name; None at the end."""
        images = next(self.inputs, None)
        return None if images is None else {"images": images}
