"""DETR3D: boxes in space from the images of six cameras, on nuScenes' data and metric."""

from d2ext.projects.detr3d import demo, layout, modeling  # noqa: F401  (register)
from d2ext.projects.detr3d.config import add_detr3d_config, add_vovnet_config
from d2ext.projects.detr3d.data import checks, mapper, register, sampler  # noqa: F401  (register)
from d2ext.projects.detr3d.evaluation import evaluator, report  # noqa: F401  (register)
from detectron2.config import CfgNode


def add_config(cfg: CfgNode) -> None:
    """Add `MODEL.DETR3D` and `MODEL.VOVNET`."""
    add_detr3d_config(cfg)
    add_vovnet_config(cfg)
