"""A module written to a file, and the file compared with the model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from d2ext.data.augmentation.resize import LETTERBOX
from d2ext.exporters.check import Detect, Difference, compare, compare_pipelines
from d2ext.exporters.exported_module import Detections, ExportedModule
from d2ext.exporters.exporter import NMSExporter
from d2ext.exporters.file_detector import FileDetector
from d2ext.exporters.formats import SUFFIXES, load, save
from d2ext.exporters.lowered_threshold import add_noise, lowered_threshold
from d2ext.exporters.metadata import Metadata
from d2ext.exporters.onnx_session import Run
from d2ext.exporters.proposal_network import ProposalExporter

FP16_FACTOR = 20.0  # of the tolerances of a 16-bit file: 1 pixel, 0.002 of a score


@dataclass(frozen=True)
class FileCheck:
    """How a module is written to a file, and the inputs on which the file is compared.

    Attributes:
        module: what is exported, called once.
        metadata: those of the file.
        kind: the format, a key of `SUFFIXES`.
        fp16: the network of an ONNX file computes in 16 bits.
        detect: the model as `tools/demo.py` calls it.
        batches: (B, C, H, W) pixels each, the last with B > 1.
        images: (H, W, 3) RGB uint8 each, for the comparison of whole pipelines.
    """

    module: ExportedModule
    metadata: Metadata
    kind: str
    fp16: bool
    detect: Detect
    batches: Sequence[Tensor]
    images: Sequence[np.ndarray]

    def write(self, path: Path) -> list[Difference]:
        """Write the file and compare it with the model."""
        metadata = self.metadata.as_dict()
        save(self.module, self.batches[-1], metadata["size"] is None, metadata, self.kind, path)
        if self.fp16:
            from d2ext.exporters.fp16 import convert_to_fp16  # its packages are for exports alone

            convert_to_fp16(path, path)
        run, factor = load(path, self.kind), FP16_FACTOR if self.fp16 else 1.0
        differences = compare(run, self.module, self.batches, factor)
        if self.compares_pipelines:
            differences += compare_pipelines(self._detector(run), self.detect, self.images, factor)
        return differences

    def write_below_threshold(self) -> Iterator[Difference]:
        """Yield the differences of a second file, whose score threshold gives detections.

        The model gets that threshold meanwhile. Nothing is compared where it detects nothing even
        then, as a model does that keeps its threshold elsewhere.
        """
        exporter = self.module.exporter
        if not (isinstance(self.module, Detections) and isinstance(exporter, NMSExporter)):
            return
        own = self._with_noise()
        threshold = lowered_threshold(exporter, own._inputs())
        with exporter.score_threshold(threshold), TemporaryDirectory() as folder:
            if own._model_detects():
                for found in own.write(Path(folder) / f"model{SUFFIXES[self.kind]}"):
                    yield replace(found, text=f"above a score of {threshold:.3g}: {found.text}")

    @property
    def compares_pipelines(self) -> bool:
        """True if the file is to give what prediction gives for a whole image.

        Prediction shows no proposals; see also `pads_further`.
        """
        proposals = isinstance(self.module.exporter, ProposalExporter)
        return self.metadata.nms == "inside" and not proposals and not self.pads_further

    @property
    def pads_further(self) -> bool:
        """True for a file of a fixed size that images are fitted in: all are padded to it."""
        return self.metadata.resize == LETTERBOX and self.metadata.size is not None

    def _detector(self, run: Run) -> FileDetector:
        return FileDetector(run, self.metadata.as_dict())

    def _inputs(self) -> list[Tensor]:
        """Return all inputs of the model, those of whole images included."""
        if not self.compares_pipelines:
            return list(self.batches)
        prepare = self._detector(self.module).prepare
        return [*self.batches, *(torch.from_numpy(prepare(image)[0]) for image in self.images)]

    def _with_noise(self) -> "FileCheck":
        images = [add_noise(torch.from_numpy(image)).numpy() for image in self.images]
        return replace(self, batches=[add_noise(batch) for batch in self.batches], images=images)

    @torch.no_grad()
    def _model_detects(self) -> bool:
        found = (self.module.exporter.detect(images) for images in self.batches)
        return any(len(instances) for batch in found for instances in batch)
