"""An exported file of any format as a detector of single images, fed as its metadata say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from d2ext.data.augmentation.resize import (
    SHORTEST_EDGE,
    STRETCH,
    ResizeShortestEdge,
    ResizeTo,
)
from d2ext.data.image_reading import from_rgb
from d2ext.errors import WeightsError
from d2ext.exporters.detections import instances_of, to_image
from d2ext.exporters.formats import format_of, load_with_metadata
from d2ext.exporters.onnx_session import Run
from detectron2.data import transforms as T
from detectron2.structures import Instances


class FileDetector:
    """A file that `tools/export.py` wrote with NMS in it, called as a `Predictor` is.

    Args:
        run: the file as a function of (1, C, H, W) float32 pixels.
        metadata: those of the file.
    Attributes:
        names: names of the classes.
    """

    def __init__(self, run: Run, metadata: Mapping[str, Any]) -> None:
        self.run, self.metadata = run, metadata
        self.names: list[str] = metadata["classes"]

    @classmethod
    def open(cls, path: Path, threads: int = 0) -> "FileDetector":
        """Open a file, named by its format's suffix.

        Args:
            threads: threads of onnxruntime or OpenVINO; 0 leaves their number to it.
        Raises:
            WeightsError: the file is not such a file, or cannot be run.
            ConfigError: a package that it needs is missing.
        """
        run, metadata = load_with_metadata(path, format_of(path), threads)
        if metadata.get("nms") != "inside":
            raise WeightsError(
                f"{path}: not a file of tools/export.py with NMS in it: export it without "
                "--nms none."
            )
        return cls(run, metadata)

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> Instances:
        """Detect on a (H, W, 3) RGB uint8 image; boxes, masks and keypoints are in its pixels."""
        images, resized = self.prepare(image)
        tensors = (output[0] for output in self.run(torch.from_numpy(images)))
        outputs = dict(zip(self.metadata["outputs"], tensors, strict=True))
        found = instances_of(outputs, resized)
        if self.metadata["clip"]:
            return to_image(found, *image.shape[:2])
        found.pred_boxes.scale(image.shape[1] / resized[1], image.shape[0] / resized[0])
        return Instances(image.shape[:2], **found.get_fields())

    def prepare(self, image: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
        """Resize a (H, W, 3) RGB uint8 image, and pad it as far as the file does not.

        Returns:
            The input (1, C, h, w), and the (height, width) of the image in it.
        """
        ordered = np.ascontiguousarray(from_rgb(image, self.metadata["channel_order"]))
        resized = self._resizing().get_transform(ordered).apply_image(ordered)
        height, width = resized.shape[:2]
        stride = self.metadata["stride"]
        whole = self.metadata["size"] or [-(-side // stride) * stride for side in (height, width)]
        padded = np.empty((*whole, ordered.shape[2]), dtype=np.float32)
        padded[:] = self.metadata["padding"]
        padded[:height, :width] = resized
        return np.ascontiguousarray(padded.transpose(2, 0, 1)[None]), (height, width)

    def _resizing(self) -> T.Augmentation:
        metadata = self.metadata
        if metadata["resize"] == SHORTEST_EDGE:
            return ResizeShortestEdge([metadata["shortest"]] * 2, metadata["longest"])
        height, width = metadata["frame"]
        return ResizeTo(width, height, stretch=metadata["resize"] == STRETCH)
