"""Inference with an exported file of any format, as a detector of single images."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from d2ext.data.augmentation.resize import ResizeShortestEdge, ResizeTo
from d2ext.data.image_reading import from_rgb
from d2ext.errors import WeightsError
from d2ext.exporters.detections import instances_of, to_image
from d2ext.exporters.formats import format_of, load, load_metadata
from detectron2.data import transforms as T
from detectron2.structures import Instances


class FileDetector:
    """A file that `tools/export.py` wrote with NMS in it, called as a `Predictor` is.

    Args:
        path: the file, named by its format's suffix.
        threads: threads of onnxruntime or OpenVINO; 0 leaves their number to it.
    Attributes:
        names: names of the classes.
    Raises:
        WeightsError: the file is not such a file, or cannot be run.
        ConfigError: a package that it needs is missing.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        kind = format_of(path)
        self.run = load(path, kind, threads)
        self.metadata: dict[str, Any] = load_metadata(path, kind)
        if self.metadata.get("nms") != "inside":
            raise WeightsError(
                f"{path}: not a file of tools/export.py with NMS in it: export it without "
                "--nms none."
            )
        self.names: list[str] = self.metadata["classes"]

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> Instances:
        """Detect on a (H, W, 3) RGB uint8 image; boxes, masks and keypoints are in its pixels."""
        images, resized = self.prepare(image)
        found = self.run(torch.from_numpy(images))
        outputs = dict(zip(self.metadata["outputs"], (each[0] for each in found), strict=True))
        return self._in_image(instances_of(outputs, resized), resized, image.shape[:2])

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

    def _in_image(
        self, found: Instances, resized: tuple[int, int], size: tuple[int, ...]
    ) -> Instances:
        """Move detections from the input's pixels to those of the image, (height, width)."""
        height, width = size
        if self.metadata["clip"]:
            return to_image(found, height, width)
        found.pred_boxes.scale(width / resized[1], height / resized[0])
        return Instances((height, width), **found.get_fields())

    def _resizing(self) -> T.Augmentation:
        metadata = self.metadata
        if metadata["resize"] == "shortest_edge":
            return ResizeShortestEdge([metadata["shortest"]] * 2, metadata["longest"])
        height, width = metadata["size"]
        return ResizeTo(width, height, stretch=metadata["resize"] == "stretch")

    def _padded(self, side: int) -> int:
        stride = self.metadata["stride"]
        return -(-max(side, self.metadata["smallest"]) // stride) * stride
