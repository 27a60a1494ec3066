"""Detectors small enough to export in seconds, with enough detections to compare."""

import torch
from torch import Tensor, nn

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone, build_model
from tests.helpers.models import tiny_config

STRIDES = {"p3": 8, "p4": 16, "p5": 32, "p6": 64, "p7": 128}


@BACKBONE_REGISTRY.register()
class ExportPyramid(Backbone):
    """A convolution for each level, 32 channels wide."""

    def __init__(self, cfg: CfgNode, input_shape: ShapeSpec) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 8, stride=8)
        self.levels = nn.ModuleList(nn.Conv2d(32, 32, 3, stride=2, padding=1) for _ in range(4))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        levels = [self.stem(images).relu()]
        for conv in self.levels:
            levels.append(conv(levels[-1]).relu())
        return dict(zip(STRIDES, levels, strict=True))

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {name: ShapeSpec(channels=32, stride=stride) for name, stride in STRIDES.items()}

    @property
    def size_divisibility(self) -> int:
        return 32


def tiny_detector(name: str, seed: int = 0) -> tuple[torch.nn.Module, CfgNode]:
    """`name` on `ExportPyramid`, "DyHead" meaning ATSS on a dynamic head; random weights."""
    cfg = tiny_config()
    cfg.MODEL.META_ARCHITECTURE = "ATSS" if name == "DyHead" else name
    cfg.MODEL.DYHEAD.BACKBONE = "ExportPyramid"
    if name != "DyHead":
        cfg.MODEL.BACKBONE.NAME = "ExportPyramid"
        cfg.MODEL.ATSS.NUM_CONVS = cfg.MODEL.RETINANET.NUM_CONVS = 1
        cfg.MODEL.FCOS.NUM_CLS_CONVS = cfg.MODEL.FCOS.NUM_BOX_CONVS = 1
        cfg.MODEL.ATSS.CHANNELS = cfg.MODEL.FCOS.CHANNELS = 32
    for section in (cfg.MODEL.ATSS, cfg.MODEL.RETINANET, cfg.MODEL.FCOS):
        section.NUM_CLASSES = 3
        section.SCORE_THRESH_TEST = 0.005  # below the 0.01 that classifiers start from
        section.TOPK_CANDIDATES_TEST = 50
    cfg.MODEL.PIXEL_STD = [58.0, 58.0, 58.0]  # else scores are all 0 or 1
    cfg.TEST.DETECTIONS_PER_IMAGE = 20
    torch.manual_seed(seed)
    model = build_model(cfg).eval()
    with torch.no_grad():  # as if trained a little: scores and boxes that differ
        for parameter in model.head.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model, cfg


def some_images(batch: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """(B, 3, H, W) float32 pixels."""
    generator = torch.Generator().manual_seed(seed)
    return 255 * torch.rand(batch, 3, height, width, generator=generator)
