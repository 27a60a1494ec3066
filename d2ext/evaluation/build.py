"""Build the evaluator of a data set from its `evaluator_type`."""

import logging
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from d2ext.config import learns_rotated_boxes
from d2ext.data.catalog import set_metadata
from d2ext.data.separate_things import is_panoptic_fpn, numbers_apart
from d2ext.evaluation.boundary_iou import BoundaryIoUEvaluator
from d2ext.evaluation.by_output import EvaluatorsByOutput
from d2ext.evaluation.coco_ap import CocoAp, RotatedCocoAp
from d2ext.evaluation.panoptic_evaluator import PanopticEvaluator
from d2ext.evaluation.segment_labels import SegmentLabelEvaluator, write_things
from d2ext.evaluation.truth import read_truth
from d2ext.registry import ExtensionRegistry
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import (
    CityscapesInstanceEvaluator,
    COCOPanopticEvaluator,
    DatasetEvaluator,
    SemSegEvaluator,
)
from detectron2.utils.file_io import PathManager

EvaluatorBuilder = Callable[[CfgNode, str, str], DatasetEvaluator]

_logger = logging.getLogger(__name__)

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
            as semantic segmentation, as far as the model returns these.
        output_folder: folder for the results; default: `OUTPUT_DIR/inference/NAME`.

    Raises:
        ConfigError: no evaluator is registered for the type.
    """
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type", "coco")
    folder = str(output_folder or Path(cfg.OUTPUT_DIR) / "inference" / dataset_name)
    build = _BUILDERS.get(kind, f"evaluator_type of the data set {dataset_name}")
    return build(cfg, dataset_name, folder)


def _coco(cfg: CfgNode, name: str, folder: str) -> DatasetEvaluator:
    _validate_foreign(name)
    if learns_rotated_boxes(cfg):
        return _rotated(cfg, name, folder)  # predictions have angles even where the data have none
    sigmas = cfg.TEST.KEYPOINT_OKS_SIGMAS
    if cfg.TEST.BOUNDARY_IOU:
        return BoundaryIoUEvaluator(name, folder, kpt_oks_sigmas=sigmas)
    return CocoAp(name, tasks=_tasks(cfg, name), output_dir=folder, kpt_oks_sigmas=sigmas)


def _validate_foreign(name: str) -> None:
    """Validate the COCO file of a data set that d2ext has not registered, and so not cleaned.

    Raises:
        DataError: the file cannot be measured with; see `d2ext.evaluation.truth`.
    """
    metadata = MetadataCatalog.get(name)
    if "json_file" in metadata.as_dict() and metadata.get("coco_tasks", None) is None:
        read_truth(PathManager.get_local_path(metadata.json_file))


def _tasks(cfg: CfgNode, name: str) -> tuple[str, ...] | None:
    """Return the kinds of AP that both the model and the data have; None: as the predictions say.

    Predictions without any object say nothing, and data without masks have none to compare with.
    """
    given = MetadataCatalog.get(name).get("coco_tasks", None)
    switches = {"segm": cfg.MODEL.MASK_ON, "keypoints": cfg.MODEL.KEYPOINT_ON}
    wanted = tuple(task for task, is_on in switches.items() if is_on)
    if given is None:
        return None
    for task in wanted:
        if task not in given:
            words = {"segm": "masks", "keypoints": "keypoints"}
            _logger.warning("%s: has no %s, so their AP is not measured.", name, words[task])
    if not wanted and "segm" in given:
        return None
    return ("bbox", *(task for task in wanted if task in given))


def _rotated(cfg: CfgNode, name: str, folder: str) -> DatasetEvaluator:
    # Also takes upright predictions, which it measures by ordinary IoU.
    return RotatedCocoAp(name, output_dir=folder)


def _semantic(cfg: CfgNode, name: str, folder: str) -> DatasetEvaluator:
    return SemSegEvaluator(name, output_dir=folder)


def _panoptic(cfg: CfgNode, name: str, folder: str) -> DatasetEvaluator:
    def instances() -> DatasetEvaluator:
        return _coco(cfg, name if numbers_apart(name) else _things_alone(name), folder)

    return EvaluatorsByOutput({"instances": instances, **_segment_builders(cfg, name, folder)})


def _things_alone(name: str) -> str:
    """Return a name whose metadata are those of a panoptic data set without the stuff."""
    metadata = MetadataCatalog.get(name)
    numbers = metadata.thing_dataset_id_to_contiguous_id
    order = {number: position for position, number in enumerate(sorted(numbers.values()))}
    set_metadata(
        f"{name}_things",
        json_file=metadata.json_file,
        thing_classes=[metadata.thing_classes[number] for number in order],
        thing_dataset_id_to_contiguous_id={own: order[n] for own, n in numbers.items()},
    )
    return f"{name}_things"


def _cityscapes_panoptic(cfg: CfgNode, name: str, folder: str) -> DatasetEvaluator:
    # The scripts for AP want the categories of the instance data set, which counts things alone.
    return EvaluatorsByOutput(_segment_builders(cfg, name, folder))


def _segment_builders(
    cfg: CfgNode, name: str, folder: str
) -> dict[str, Callable[[], DatasetEvaluator]]:
    """Return builders by output for one of Detectron2's own panoptic data sets."""
    if numbers_apart(name):
        return {
            "sem_seg": lambda: _semantic(cfg, name, folder),
            "panoptic_seg": lambda: COCOPanopticEvaluator(name, output_dir=folder),
        }
    return {
        "sem_seg": lambda: SegmentLabelEvaluator(name),
        "panoptic_seg": lambda: PanopticEvaluator(name, folder, boundary=cfg.TEST.BOUNDARY_IOU),
    }


def _cityscapes_instances(cfg: CfgNode, name: str, folder: str) -> DatasetEvaluator:
    """Evaluate by Cityscapes' scripts where they are installed, otherwise as COCO."""
    if find_spec("cityscapesscripts"):
        return CityscapesInstanceEvaluator(name)
    _logger.warning(
        "%s: AP is COCO's, which is not Cityscapes' own: for that, pip install cityscapesscripts.",
        name,
    )
    return _coco(cfg, name, folder)


def _segments(cfg: CfgNode, name: str, folder: str) -> DatasetEvaluator:
    def things() -> DatasetEvaluator:
        path = Path(folder) / "things" / "annotations.json"
        write_things(name, path)  # each process does: some may reach this later than others
        count = len(MetadataCatalog.get(name).thing_classes)
        ids = {number + 1: number for number in range(count)}
        set_metadata(name, json_file=str(path), thing_dataset_id_to_contiguous_id=ids)
        return _coco(cfg, name, str(path.parent))

    separate, boundary = is_panoptic_fpn(cfg), cfg.TEST.BOUNDARY_IOU
    return EvaluatorsByOutput(
        {
            "panoptic_seg": lambda: PanopticEvaluator(name, folder, separate, boundary),
            "sem_seg": lambda: SegmentLabelEvaluator(name, separate),
            "instances": things,
        }
    )


register_evaluator("coco", _coco)
register_evaluator("coco_rotated", _rotated)
register_evaluator("sem_seg", _semantic)
register_evaluator("coco_panoptic_seg", _panoptic)
register_evaluator("cityscapes_instance", _cityscapes_instances)
register_evaluator("cityscapes_sem_seg", _semantic)
register_evaluator("cityscapes_panoptic_seg", _cityscapes_panoptic)
register_evaluator("panoptic", _segments)
