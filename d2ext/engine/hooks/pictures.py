"""Hook that draws data, training curves and predictions into the output folder."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from d2ext.data import dataset_stats
from d2ext.visualization import save_class_counts, save_curves, save_results_picture
from detectron2.config import CfgNode
from detectron2.engine import HookBase

logger = logging.getLogger(__name__)


class SavePictures(HookBase):
    """Draws class counts before the training, and curves and predictions after it.

    It must follow the hooks that evaluate and write metrics.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg, self.folder = cfg, Path(cfg.OUTPUT_DIR)

    def before_train(self) -> None:
        sets = {"train": self.cfg.DATASETS.TRAIN, "val": self.cfg.DATASETS.TEST}
        stats = {split: dataset_stats(names) for split, names in sets.items() if names}
        if any(found.num_objects for found in stats.values()):  # semantic masks have none
            with _drawing(self.folder / "class_counts.png") as picture:
                save_class_counts(stats, picture)

    def after_train(self) -> None:
        if getattr(self.trainer, "stopped", False):
            return  # the person who stops a training waits
        metrics = self.folder / "metrics.json"
        if metrics.exists():
            with _drawing(self.folder / "curves.png") as picture:
                save_curves(metrics, picture)
        save_prediction_pictures(self.cfg)


def save_prediction_pictures(cfg: CfgNode) -> None:
    """Draw predictions_<name>.jpg for each data set of DATASETS.TEST that was evaluated."""
    folder = Path(cfg.OUTPUT_DIR)
    for name in cfg.DATASETS.TEST if cfg.TEST.PICTURES > 0 else ():
        with _drawing(folder / f"predictions_{name}.jpg") as picture:
            save_results_picture(name, folder / "inference" / name, picture, cfg.TEST.PICTURES)


@contextmanager
def _drawing(picture: Path) -> Iterator[Path]:
    """Log whatever goes wrong with a picture: it must not end a training."""
    try:
        yield picture
    except Exception:
        logger.exception("%s could not be drawn", picture)
