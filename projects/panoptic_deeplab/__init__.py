"""Panoptic-DeepLab: recipes and the dataset mapper for `detectron2.projects.panoptic_deeplab`."""

from d2ext.errors import ConfigError
from d2ext.projects.panoptic_deeplab import mapper  # noqa: F401
from detectron2.config import CfgNode


def add_config(cfg: CfgNode) -> None:
    """Register the model and add the published keys; the default of `SOLVER.OPTIMIZER` stays.

    Raises:
        ConfigError: the installed detectron2 lacks something that its project imports.
    """
    try:  # not above: the commands import all projects, also where this one cannot be used
        from detectron2.projects.panoptic_deeplab import add_panoptic_deeplab_config
    except ImportError as error:
        raise ConfigError(
            f"PLUGINS d2ext.projects.panoptic_deeplab: {error}. The installed detectron2 needs "
            "panopticapi for it: pip install git+https://github.com/cocodataset/panopticapi"
        ) from error
    optimizer = cfg.SOLVER.OPTIMIZER
    add_panoptic_deeplab_config(cfg)
    cfg.SOLVER.OPTIMIZER = optimizer
