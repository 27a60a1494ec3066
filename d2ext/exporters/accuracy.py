"""COCO AP of detectors of single images: models, and files that were exported from them."""

from collections.abc import Sequence

from d2ext.data.image_reading import read_image
from d2ext.exporters.check import Detect
from detectron2.data import DatasetCatalog
from detectron2.evaluation import COCOEvaluator


def average_precision(detector: Detect, dataset_name: str) -> dict[str, dict[str, float]]:
    """Compute COCO's numbers in percent, "AP", "AP50"..., by task: "bbox", and "segm" of masks.

    Args:
        detector: maps a (H, W, 3) RGB uint8 image to instances in its pixels, on the CPU.
        dataset_name: a registered data set.
    """
    return average_precisions([detector], dataset_name)[0]


def average_precisions(
    detectors: Sequence[Detect], dataset_name: str
) -> list[dict[str, dict[str, float]]]:
    """Compute `average_precision` of several detectors, which take turns at each image."""
    items = DatasetCatalog.get(dataset_name)
    annotated = any("segmentation" in each for item in items for each in item["annotations"])
    evaluators: list[COCOEvaluator] = []
    for item in items:
        image = read_image(item["file_name"], format="RGB")
        for number, detector in enumerate(detectors):
            found = detector(image)
            if number == len(evaluators):
                tasks = ("bbox", "segm") if annotated and found.has("pred_masks") else ("bbox",)
                evaluators.append(COCOEvaluator(dataset_name, tasks=tasks, distributed=False))
                evaluators[-1].reset()
            evaluators[number].process([item], [{"instances": found}])
    return [
        {task: dict(numbers) for task, numbers in evaluator.evaluate().items()}
        for evaluator in evaluators
    ]
