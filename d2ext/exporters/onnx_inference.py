"""Inference with onnxruntime: an exported ONNX file as a detector of single images."""

import json
from pathlib import Path

import torch
from torch import Tensor

from d2ext.errors import WeightsError
from d2ext.exporters.file_inference import FileDetector
from d2ext.exporters.formats import METADATA_KEY, need_onnx, open_session


class OnnxDetector(FileDetector):
    """A file that `tools/export.py` wrote with NMS in it, called as a `Predictor` is.

    Args:
        path: the ONNX file.
        threads: threads of onnxruntime; 0 leaves their number to it.
    Attributes:
        names: names of the classes.
    Raises:
        WeightsError: the file is not such a file, or onnxruntime cannot run it.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        need_onnx()
        self.session = open_session(path, threads)
        properties = self.session.get_modelmeta().custom_metadata_map
        super().__init__(self._run, json.loads(properties.get(METADATA_KEY, "{}")))
        if self.metadata.get("nms") != "inside":
            raise WeightsError(
                f"{path}: not an ONNX file of tools/export.py with NMS in it: export it without "
                "--nms none."
            )
        self.names: list[str] = self.metadata["classes"]

    def _run(self, images: Tensor) -> tuple[Tensor, ...]:
        arrays = self.session.run(None, {"images": images.numpy()})
        return tuple(map(torch.from_numpy, arrays))
