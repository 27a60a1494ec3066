"""Cityscapes' metrics of instances and of semantic labels, by its own scripts.

The scripts are optional: `pip install cityscapesscripts`.
"""

import glob
import logging
import os
import tempfile
from collections import OrderedDict
from importlib import import_module
from typing import Any

import numpy as np
import torch
from PIL import Image

from detectron2.data import MetadataCatalog
from detectron2.structures import Instances
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

from .evaluator import DatasetEvaluator

__all__ = ["CityscapesEvaluator", "CityscapesInstanceEvaluator", "CityscapesSemSegEvaluator"]

logger = logging.getLogger(__name__)


def _scripts(name: str) -> Any:
    try:
        return import_module(f"cityscapesscripts.{name}")
    except ImportError as error:
        raise ImportError(
            f"Evaluation on Cityscapes needs its scripts: pip install cityscapesscripts ({error})"
        ) from error


class CityscapesEvaluator(DatasetEvaluator):
    """Base of the evaluators: writes predictions to a folder that the processes share.

    Args:
        dataset_name: its metadata has "thing_classes" and "gt_dir".
    """

    def __init__(self, dataset_name: str) -> None:
        self._metadata = MetadataCatalog.get(dataset_name)
        self._cpu_device = torch.device("cpu")
        self._logger = logger

    def reset(self) -> None:
        self._working_dir = tempfile.TemporaryDirectory(prefix="cityscapes_eval_")
        # All processes write to the folder of a machine's first one.
        self._temp_dir = comm.all_gather(self._working_dir.name)[
            comm.get_local_size() * (comm.get_rank() // comm.get_local_size())
        ]
        if self._temp_dir != self._working_dir.name:
            self._working_dir.cleanup()
        self._logger.info(f"Writing cityscapes results to temporary directory {self._temp_dir} ...")

    def _evaluate(self, script: str, ending: str, **options: Any) -> dict[str, Any] | None:
        """Run an evaluation script of Cityscapes; None in processes other than the first."""
        comm.synchronize()
        if comm.get_rank() > 0:
            return None
        self._logger.info(f"Evaluating results under {self._temp_dir} ...")
        evaluation = _scripts(f"evaluation.{script}")
        settings = {"JSONOutput": False, "colorized": False, "predictionWalk": None, **options}
        for name, value in settings.items():
            setattr(evaluation.args, name, value)
        evaluation.args.predictionPath = os.path.abspath(self._temp_dir)
        gt_dir = PathManager.get_local_path(self._metadata.gt_dir)
        truth = glob.glob(os.path.join(gt_dir, "*", f"*_gtFine_{ending}.png"))
        if not truth:
            raise AssertionError(
                f"No annotations *_gtFine_{ending}.png in the folders of {gt_dir}."
            )
        # By name: the scripts have the two parameters in different orders.
        found = [
            evaluation.getPrediction(groundTruthFile=path, args=evaluation.args) for path in truth
        ]
        return evaluation.evaluateImgLists(found, truth, evaluation.args)


class CityscapesInstanceEvaluator(CityscapesEvaluator):
    """AP and AP50 of masks in percent: {"segm": {"AP": ..., "AP50": ...}}."""

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Write the predictions of a batch: "file_name" of inputs, "instances" of outputs."""
        labels = _scripts("helpers.labels").name2label
        for image, output in zip(inputs, outputs, strict=True):
            stem = os.path.splitext(os.path.basename(image["file_name"]))[0]
            # Cityscapes wants a file of every image; models may return no "instances" without any.
            found = output.get("instances")
            lines = [] if found is None else self._write_masks(stem, found, labels)
            path = os.path.join(self._temp_dir, f"{stem}_pred.txt")
            with open(path, "w", encoding="utf-8") as file:
                file.writelines(lines)

    def _write_masks(self, stem: str, instances: Instances, labels: dict[str, Any]) -> list[str]:
        """Write a PNG per instance and return the lines that list them."""
        instances, lines = instances.to(self._cpu_device), []
        for index in range(len(instances)):
            name = self._metadata.thing_classes[int(instances.pred_classes[index])]
            png = f"{stem}_{index}_{name}.png"
            mask = instances.pred_masks[index].numpy().astype(np.uint8)
            Image.fromarray(mask * 255).save(os.path.join(self._temp_dir, png))
            lines.append(f"{png} {labels[name].id} {instances.scores[index].item()}\n")
        return lines

    def evaluate(self) -> OrderedDict | None:
        """Return the metrics of what was processed; None in processes other than the first."""
        instances = os.path.join(self._temp_dir, "gtInstances.json")
        results = self._evaluate(
            "evalInstanceLevelSemanticLabeling", "instanceIds", gtInstancesFile=instances
        )
        if results is None:
            return None
        averages = results["averages"]
        self._working_dir.cleanup()
        ap = {"AP": averages["allAp"] * 100, "AP50": averages["allAp50%"] * 100}
        return OrderedDict({"segm": ap})


class CityscapesSemSegEvaluator(CityscapesEvaluator):
    """IoU of classes and categories, also weighted by instances, in percent.

    {"sem_seg": {"IoU": ..., "iIoU": ..., "IoU_sup": ..., "iIoU_sup": ...}}
    """

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Write the predictions of a batch: "file_name", and "sem_seg" (classes, H, W) scores."""
        ids = {t: label.id for t, label in _scripts("helpers.labels").trainId2label.items()}
        lookup = np.full(256, 255, dtype=np.uint8)
        for train_id, label_id in ids.items():
            if 0 <= train_id < 255:
                lookup[train_id] = label_id
        for image, output in zip(inputs, outputs, strict=True):
            stem = os.path.splitext(os.path.basename(image["file_name"]))[0]
            predicted = output["sem_seg"].argmax(dim=0).to(self._cpu_device).numpy()
            path = os.path.join(self._temp_dir, f"{stem}_pred.png")
            Image.fromarray(lookup[predicted]).save(path)

    def evaluate(self) -> OrderedDict | None:
        """Return the metrics of what was processed; None in processes other than the first."""
        results = self._evaluate("evalPixelLevelSemanticLabeling", "labelIds")
        if results is None:
            return None
        self._working_dir.cleanup()
        names = {
            "IoU": "averageScoreClasses",
            "iIoU": "averageScoreInstClasses",
            "IoU_sup": "averageScoreCategories",
            "iIoU_sup": "averageScoreInstCategories",
        }
        return OrderedDict({"sem_seg": {n: 100.0 * results[key] for n, key in names.items()}})
