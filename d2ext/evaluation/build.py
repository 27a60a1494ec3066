"""Build the evaluator of a data set from its `evaluator_type`."""

import os
from collections.abc import Callable
from pathlib import Path

from d2ext.evaluation.coco import MeasuredCOCOEvaluator
from d2ext.registry import ExtensionRegistry
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import (
    COCOPanopticEvaluator,
    DatasetEvaluator,
    DatasetEvaluators,
    RotatedCOCOEvaluator,
    SemSegEvaluator,
)

EvaluatorBuilder = Callable[[CfgNode, str, str], DatasetEvaluator]

_BUILDERS: ExtensionRegistry[str, EvaluatorBuilder] = ExtensionRegistry("evaluator")


def register_evaluator(evaluator_type: str, build: EvaluatorBuilder) -> None:
    """Register the evaluator of data sets whose metadata have this `evaluator_type`.

    A project calls it when it is imported.

    Args:
        evaluator_type: the value of `MetadataCatalog.get(name).evaluator_type`.
        build: called with the config, the name of the data set and the folder for results, which
            need not exist yet. It returns a new evaluator for each call. The evaluator receives
            what the data loader and the model return; its `evaluate` returns
            {task: {metric: number}}, which becomes "task/metric" in metrics.json.
    Raises:
        ValueError: the type has an evaluator.
    """
    _BUILDERS.register(evaluator_type, build)


def build_evaluator(
    cfg: CfgNode, dataset_name: str, output_folder: str | os.PathLike | None = None
) -> DatasetEvaluator:
    """Build the evaluator registered for the data set's `evaluator_type`.

    Args:
        dataset_name: a registered data set. One without an `evaluator_type` is converted to COCO
            and evaluated as such. Detectron2's "coco_panoptic_seg" is also evaluated as COCO and
            as semantic segmentation.
        output_folder: folder for the results; default: `OUTPUT_DIR/inference/NAME`.

    Raises:
        ConfigError: no evaluator is registered for the type.
    """
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type", "coco")
    folder = str(output_folder or Path(cfg.OUTPUT_DIR) / "inference" / dataset_name)
    build = _BUILDERS.get(kind, f"evaluator_type of the data set {dataset_name}")
    return build(cfg, dataset_name, folder)


def _coco(cfg: CfgNode, name: str, folder: str) -> DatasetEvaluator:
    if cfg.MODEL.ANCHOR_GENERATOR.NAME == "RotatedAnchorGenerator":
        return _rotated(cfg, name, folder)  # predictions have angles even where the data have none
    sigmas = cfg.TEST.KEYPOINT_OKS_SIGMAS
    return MeasuredCOCOEvaluator(name, output_dir=folder, kpt_oks_sigmas=sigmas)


def _rotated(cfg: CfgNode, name: str, folder: str) -> DatasetEvaluator:
    # Also takes upright predictions, which it measures by ordinary IoU.
    return RotatedCOCOEvaluator(name, output_dir=folder)


def _semantic(cfg: CfgNode, name: str, folder: str) -> DatasetEvaluator:
    return SemSegEvaluator(name, output_dir=folder)


def _panoptic(cfg: CfgNode, name: str, folder: str) -> DatasetEvaluator:
    panoptic = COCOPanopticEvaluator(name, output_dir=folder)
    return DatasetEvaluators([_coco(cfg, name, folder), _semantic(cfg, name, folder), panoptic])


register_evaluator("coco", _coco)
register_evaluator("coco_rotated", _rotated)
register_evaluator("sem_seg", _semantic)
register_evaluator("coco_panoptic_seg", _panoptic)
