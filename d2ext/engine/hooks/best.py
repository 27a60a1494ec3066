"""Hook that saves the weights of the best evaluation."""

import logging
from collections.abc import Callable
from typing import Any

from torch import Tensor

from d2ext.checkpoint import Checkpointer
from d2ext.engine.hooks.evaluation import Evaluate
from d2ext.engine.hooks.score import BestScore
from detectron2.engine import HookBase

logger = logging.getLogger(__name__)


class BestCheckpoint(HookBase):
    """Saves model_best.pth whenever an evaluation is better than all before it.

    Args:
        evaluate: the hook that evaluates; it must precede this one.
        checkpointer: writes the file.
        metric: see `BestScore`.
        weights: returns the evaluated weights.
    """

    def __init__(
        self,
        evaluate: Evaluate,
        checkpointer: Checkpointer,
        metric: str,
        weights: Callable[[], dict[str, Tensor]],
    ) -> None:
        self.evaluate, self.checkpointer, self.weights = evaluate, checkpointer, weights
        self.score = BestScore(metric)

    def after_step(self) -> None:
        metrics = self.evaluate.metrics
        if metrics and self.score.update(metrics):
            best = {"metric": self.score.metric, "value": self.score.best}
            logger.info("best %s so far: %.4f", self.score.metric, self.score.best)
            self.checkpointer.save_weights(
                "model_best", self.weights(), iteration=self.trainer.iter, **best
            )

    def after_train(self) -> None:
        self.after_step()

    def state_dict(self) -> dict[str, Any]:
        return self.score.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.score.load_state_dict(state_dict)
