"""Hooks of the trainer, one per file."""

from d2ext.engine.hooks.averaging import AverageWeights
from d2ext.engine.hooks.best import BestCheckpoint
from d2ext.engine.hooks.checkpoints import SaveCheckpoints
from d2ext.engine.hooks.early_stopping import EarlyStopping
from d2ext.engine.hooks.evaluation import Evaluate
from d2ext.engine.hooks.loggers import RunLoggers
from d2ext.engine.hooks.metrics import WriteMetrics
from d2ext.engine.hooks.pictures import SavePictures
from d2ext.engine.hooks.progress import ProgressBar

__all__ = [
    "AverageWeights",
    "BestCheckpoint",
    "EarlyStopping",
    "Evaluate",
    "ProgressBar",
    "RunLoggers",
    "SaveCheckpoints",
    "SavePictures",
    "WriteMetrics",
]
