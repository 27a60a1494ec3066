"""Models as files that run without d2ext: ONNX, TorchScript and `torch.export` programs."""

from d2ext.export.dense import DenseExporter
from d2ext.export.exporter import (
    Exporter,
    MaskExporter,
    NMSExporter,
    exporter_for,
    register_exporter,
)
from d2ext.export.proposal_network import ProposalExporter
from d2ext.export.rcnn import RCNNExporter
from d2ext.export.selection import topk_candidates

__all__ = [
    "DenseExporter",
    "Exporter",
    "MaskExporter",
    "NMSExporter",
    "ProposalExporter",
    "RCNNExporter",
    "exporter_for",
    "register_exporter",
    "topk_candidates",
]
