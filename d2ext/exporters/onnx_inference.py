"""Inference with onnxruntime: an exported ONNX file as a detector of single images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from d2ext.data.augmentation.resize import ResizeShortestEdge, ResizeTo
from d2ext.data.image_reading import from_rgb
from d2ext.errors import WeightsError
from d2ext.exporters.detections import instances_of, to_image
from d2ext.exporters.formats import METADATA_KEY, need_onnx, open_session
from detectron2.data import transforms as T
from detectron2.structures import Instances


class OnnxDetector:
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
        self.metadata: dict[str, Any] = json.loads(properties.get(METADATA_KEY, "{}"))
        if self.metadata.get("nms") != "inside":
            raise WeightsError(
                f"{path}: not an ONNX file of tools/export.py with NMS in it: export it without "
                "--nms none."
            )
        self.names: list[str] = self.metadata["classes"]

    def __call__(self, image: np.ndarray) -> Instances:
        """Detect on a (H, W, 3) RGB uint8 image; boxes, masks and keypoints are in its pixels."""
        images, resized = self.prepare(image)
        arrays = self.session.run(None, {"images": images})
        tensors = (torch.from_numpy(array[0]) for array in arrays)
        outputs = dict(zip(self.metadata["outputs"], tensors, strict=True))
        found = instances_of(outputs, resized)
        if self.metadata["clip"]:
            return to_image(found, *image.shape[:2])
        found.pred_boxes.scale(image.shape[1] / resized[1], image.shape[0] / resized[0])
        return Instances(image.shape[:2], **found.get_fields())

    def prepare(self, image: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
        """Resize and pad a (H, W, 3) RGB uint8 image.

        Returns:
            The input (1, C, h, w), and the (height, width) of the image in it.
        """
        ordered = np.ascontiguousarray(from_rgb(image, self.metadata["channel_order"]))
        resized = self._resizing().get_transform(ordered).apply_image(ordered)
        height, width = resized.shape[:2]
        whole = self.metadata["size"] or [self._padded(height), self._padded(width)]
        padded = np.empty((*whole, ordered.shape[2]), dtype=np.float32)
        padded[:] = self.metadata["padding"]
        padded[:height, :width] = resized
        return np.ascontiguousarray(padded.transpose(2, 0, 1)[None]), (height, width)

    def _resizing(self) -> T.Augmentation:
        metadata = self.metadata
        if metadata["resize"] == "shortest_edge":
            return ResizeShortestEdge([metadata["shortest"]] * 2, metadata["longest"])
        height, width = metadata["size"]
        return ResizeTo(width, height, stretch=metadata["resize"] == "stretch")

    def _padded(self, side: int) -> int:
        stride = self.metadata["stride"]
        return -(-max(side, self.metadata["smallest"]) // stride) * stride
