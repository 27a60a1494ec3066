"""Pictures of a training, drawn at its end."""

from pathlib import Path

from d2ext.data import dataset_facts
from d2ext.evaluation import save_class_counts, save_curves, save_predictions
from detectron2.config import CfgNode
from detectron2.engine import HookBase


class SavePictures(HookBase):
    """Class counts before the training; curves and predictions after it.

    Must stand behind the hooks that evaluate and write metrics.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg, self.folder = cfg, Path(cfg.OUTPUT_DIR)

    def before_train(self) -> None:
        sets = {"train": self.cfg.DATASETS.TRAIN, "val": self.cfg.DATASETS.TEST}
        facts = {split: dataset_facts(names) for split, names in sets.items() if names}
        save_class_counts(facts, self.folder / "class_counts.png")

    def after_train(self) -> None:
        metrics = self.folder / "metrics.json"
        if metrics.exists():
            save_curves(metrics, self.folder / "curves.png")
        for name in self.cfg.DATASETS.TEST:
            results = self.folder / "inference" / name / "coco_instances_results.json"
            if self.cfg.TEST.PICTURES > 0 and results.exists():
                picture = self.folder / f"predictions_{name}.jpg"
                save_predictions(name, results, picture, self.cfg.TEST.PICTURES)
