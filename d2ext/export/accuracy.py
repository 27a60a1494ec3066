"""COCO AP of a detector of single images: a model, or a file that was exported from it."""

from collections.abc import Callable

import numpy as np

from d2ext.data.image_reading import read_image
from detectron2.data import DatasetCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Instances


def average_precision(
    detector: Callable[[np.ndarray], Instances], dataset_name: str
) -> dict[str, float]:
    """Compute COCO's numbers for boxes, in percent: "AP", "AP50"...

    Args:
        detector: maps a (H, W, 3) RGB uint8 image to instances in its pixels, on the CPU.
        dataset_name: a registered data set.
    """
    evaluator = COCOEvaluator(dataset_name, tasks=("bbox",), distributed=False)
    evaluator.reset()
    for item in DatasetCatalog.get(dataset_name):
        found = detector(read_image(item["file_name"], format="RGB"))
        evaluator.process([item], [{"instances": found}])
    return evaluator.evaluate()["bbox"]
