"""COCO AP of a detector of single images: a model, or a file that was exported from it."""

from collections.abc import Callable
from itertools import chain

import numpy as np

from d2ext.data.image_reading import read_image
from detectron2.data import DatasetCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Instances


def average_precision(
    detector: Callable[[np.ndarray], Instances], dataset_name: str
) -> dict[str, dict[str, float]]:
    """Compute COCO's numbers in percent, "AP", "AP50"..., by task: "bbox", and "segm" of masks.

    Args:
        detector: maps a (H, W, 3) RGB uint8 image to instances in its pixels, on the CPU.
        dataset_name: a registered data set.
    """
    items = DatasetCatalog.get(dataset_name)
    found = (detector(read_image(item["file_name"], format="RGB")) for item in items)
    first = next(found)
    annotated = any("segmentation" in each for item in items for each in item["annotations"])
    tasks = ("bbox", "segm") if annotated and first.has("pred_masks") else ("bbox",)
    evaluator = COCOEvaluator(dataset_name, tasks=tasks, distributed=False)
    evaluator.reset()
    for item, instances in zip(items, chain([first], found), strict=True):
        evaluator.process([item], [{"instances": instances}])
    return {task: dict(numbers) for task, numbers in evaluator.evaluate().items()}
