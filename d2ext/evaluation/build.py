"""From a data set's name to what measures predictions on it."""

import os
from collections.abc import Callable
from pathlib import Path

from d2ext.errors import ConfigError
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import (
    COCOEvaluator,
    COCOPanopticEvaluator,
    DatasetEvaluator,
    DatasetEvaluators,
    RotatedCOCOEvaluator,
    SemSegEvaluator,
)


def build_evaluator(
    cfg: CfgNode, dataset_name: str, output_folder: str | os.PathLike | None = None
) -> DatasetEvaluator:
    """The evaluator that the data set's `evaluator_type` asks for.

    Args:
        dataset_name: a registered data set. One without an `evaluator_type` is measured as COCO,
            its annotations converted. Detectron2's "coco_panoptic_seg" is measured as COCO and as
            semantic segmentation, too.
        output_folder: for the results; without it `OUTPUT_DIR/inference/NAME`.

    Raises:
        ConfigError: the type is not known.
    """
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type", "coco")
    folder = str(output_folder or Path(cfg.OUTPUT_DIR) / "inference" / dataset_name)
    if kind not in _BUILDERS:
        raise ConfigError(
            f"{dataset_name}: no evaluator for evaluator_type {kind!r}; known: "
            f"{', '.join(_BUILDERS)}. Set it by MetadataCatalog.get({dataset_name!r})"
            ".evaluator_type, or evaluate in your own script."
        )
    return _BUILDERS[kind](cfg, dataset_name, folder)


def _coco(cfg: CfgNode, name: str, folder: str) -> DatasetEvaluator:
    if cfg.MODEL.ANCHOR_GENERATOR.NAME == "RotatedAnchorGenerator":
        return _rotated(cfg, name, folder)  # predictions have angles, even where the data don't
    return COCOEvaluator(name, output_dir=folder, kpt_oks_sigmas=cfg.TEST.KEYPOINT_OKS_SIGMAS)


def _rotated(cfg: CfgNode, name: str, folder: str) -> DatasetEvaluator:
    """Rotated predictions by rotated IoU; those of a model without angles as COCO has it."""
    return RotatedCOCOEvaluator(name, output_dir=folder)


def _semantic(cfg: CfgNode, name: str, folder: str) -> DatasetEvaluator:
    return SemSegEvaluator(name, output_dir=folder)


def _panoptic(cfg: CfgNode, name: str, folder: str) -> DatasetEvaluator:
    panoptic = COCOPanopticEvaluator(name, output_dir=folder)
    return DatasetEvaluators([_coco(cfg, name, folder), _semantic(cfg, name, folder), panoptic])


_BUILDERS: dict[str, Callable[[CfgNode, str, str], DatasetEvaluator]] = {
    "coco": _coco,
    "coco_rotated": _rotated,
    "sem_seg": _semantic,
    "coco_panoptic_seg": _panoptic,
}
