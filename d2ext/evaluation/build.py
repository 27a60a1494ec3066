"""From a data set's name to what measures predictions on it."""

import os
from pathlib import Path

from d2ext.errors import ConfigError
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator


def build_evaluator(
    cfg: CfgNode, dataset_name: str, output_folder: str | os.PathLike | None = None
) -> DatasetEvaluator:
    """The evaluator that the data set's `evaluator_type` asks for.

    Args:
        dataset_name: a registered data set. One without an `evaluator_type` is measured as COCO,
            its annotations converted.
        output_folder: for `coco_instances_results.json`; without it `OUTPUT_DIR/inference/NAME`.

    Raises:
        ConfigError: the type is not known.
    """
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type", "coco")
    folder = Path(output_folder or Path(cfg.OUTPUT_DIR) / "inference" / dataset_name)
    if kind == "coco":
        return COCOEvaluator(
            dataset_name, output_dir=str(folder), kpt_oks_sigmas=cfg.TEST.KEYPOINT_OKS_SIGMAS
        )
    raise ConfigError(
        f"{dataset_name}: no evaluator for evaluator_type {kind!r}; known: coco. Set it by "
        f"MetadataCatalog.get({dataset_name!r}).evaluator_type, or evaluate in your own script."
    )
