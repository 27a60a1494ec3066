"""Pictures of data, training and predictions, in the output folder."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from d2ext.data import dataset_stats
from d2ext.visualization import save_class_counts, save_curves, save_predictions
from detectron2.config import CfgNode
from detectron2.engine import HookBase

logger = logging.getLogger(__name__)


class SavePictures(HookBase):
    """Class counts before the training; curves and predictions after it.

    Must stand behind the hooks that evaluate and write metrics.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg, self.folder = cfg, Path(cfg.OUTPUT_DIR)

    def before_train(self) -> None:
        sets = {"train": self.cfg.DATASETS.TRAIN, "val": self.cfg.DATASETS.TEST}
        stats = {split: dataset_stats(names) for split, names in sets.items() if names}
        if any(found.num_objects for found in stats.values()):  # none in semantic masks
            with _drawing(self.folder / "class_counts.png") as picture:
                save_class_counts(stats, picture)

    def after_train(self) -> None:
        metrics = self.folder / "metrics.json"
        if metrics.exists():
            with _drawing(self.folder / "curves.png") as picture:
                save_curves(metrics, picture)
        save_prediction_pictures(self.cfg)


def save_prediction_pictures(cfg: CfgNode) -> None:
    """Draw predictions_<name>.jpg for each of DATASETS.TEST that was evaluated."""
    folder = Path(cfg.OUTPUT_DIR)
    for name in cfg.DATASETS.TEST:
        results = folder / "inference" / name / "coco_instances_results.json"
        if cfg.TEST.PICTURES > 0 and results.exists():
            with _drawing(folder / f"predictions_{name}.jpg") as picture:
                save_predictions(name, results, picture, cfg.TEST.PICTURES)


@contextmanager
def _drawing(picture: Path) -> Iterator[Path]:
    """A training is worth more than a picture of it: what goes wrong is logged, and it goes on."""
    try:
        yield picture
    except Exception:
        logger.exception("%s could not be drawn", picture)
