"""Hook that stops a training early."""

import logging
from typing import Any

from d2ext.engine.hooks.evaluation import Evaluate
from d2ext.engine.hooks.score import BestScore
from detectron2.engine import HookBase

logger = logging.getLogger(__name__)


class EarlyStopping(HookBase):
    """Ends the training after `patience` consecutive evaluations without a new best score.

    It lowers `trainer.max_iter`, so that everything done at the end of a training is done.

    Args:
        evaluate: the hook that evaluates; it must precede this one.
        metric: see `BestScore`.
        patience: number of evaluations; at least 1.
    """

    def __init__(self, evaluate: Evaluate, metric: str, patience: int) -> None:
        self.evaluate = evaluate
        self.score, self.patience = BestScore(metric), patience

    def before_train(self) -> None:
        if self.score.since >= self.patience:  # a stopped training was resumed
            self.trainer.max_iter = self.trainer.start_iter

    def after_step(self) -> None:
        if not self.evaluate.metrics:
            return
        self.score.update(self.evaluate.metrics)
        if self.score.since >= self.patience:
            logger.info(
                "stopped at iteration %d: %s has not improved in %d evaluations (best: %s)",
                *(self.trainer.iter, self.score.metric, self.score.since, self.score.best),
            )
            self.trainer.max_iter = self.trainer.iter + 1

    def state_dict(self) -> dict[str, Any]:
        return self.score.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.score.load_state_dict(state_dict)
