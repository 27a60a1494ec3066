"""Models as files that run without d2ext: ONNX, TorchScript and `torch.export` programs."""

from d2ext.exporters.dense import DenseExporter
from d2ext.exporters.exporter import (
    Exporter,
    MaskExporter,
    NMSExporter,
    exporter_for,
    register_exporter,
)
from d2ext.exporters.proposal_network import ProposalExporter
from d2ext.exporters.rcnn import RCNNExporter
from d2ext.exporters.selection import topk_candidates
from d2ext.exporters.semantic import SemanticExporter

__all__ = [
    "DenseExporter",
    "Exporter",
    "MaskExporter",
    "NMSExporter",
    "ProposalExporter",
    "RCNNExporter",
    "SemanticExporter",
    "exporter_for",
    "register_exporter",
    "topk_candidates",
]
