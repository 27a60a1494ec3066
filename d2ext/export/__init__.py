"""Models as files that run without d2ext: ONNX, TorchScript and `torch.export` programs."""

from d2ext.export.dense import DenseExporter
from d2ext.export.exporter import Exporter, exporter_for, register_exporter

__all__ = ["DenseExporter", "Exporter", "exporter_for", "register_exporter"]
