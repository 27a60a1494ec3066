"""An evaluator that compares how many objects are found with how many there are."""

import json
from pathlib import Path
from typing import Any

from d2ext.evaluation import register_evaluator
from d2ext.files import replacing
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm


class CountEvaluator(DatasetEvaluator):
    """Mean absolute error of the number of objects per image.

    Args:
        dataset_name: the registered data set.
        folder: where counts.json is written.
    """

    def __init__(self, dataset_name: str, folder: str) -> None:
        dicts = DatasetCatalog.get(dataset_name)
        self.truth = {item["image_id"]: len(item["annotations"]) for item in dicts}
        self.folder = folder

    def reset(self) -> None:
        self.errors: list[int] = []

    def process(self, inputs: list[dict], outputs: list[dict[str, Any]]) -> None:
        for item, output in zip(inputs, outputs, strict=True):
            self.errors.append(abs(len(output["instances"]) - self.truth[item["image_id"]]))

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        errors = [error for errors in comm.gather(self.errors) for error in errors]
        if not comm.is_main_process():
            return None
        with replacing(Path(self.folder, "counts.json")) as path:
            path.write_text(json.dumps(errors), encoding="utf-8")
        return {"count": {"error": sum(errors) / max(1, len(errors))}}


def _build(cfg: CfgNode, dataset_name: str, folder: str) -> CountEvaluator:
    return CountEvaluator(dataset_name, folder)


register_evaluator("dots", _build)
