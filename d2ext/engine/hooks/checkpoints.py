"""Hook that saves checkpoints to resume from, and the final weights."""

from collections.abc import Callable

from torch import Tensor

from d2ext.checkpoint import Checkpointer
from detectron2.engine import HookBase


class SaveCheckpoints(HookBase):
    """Saves model_<iteration>.pth periodically, and model_final.pth at the end.

    It must be the last hook but for pictures, so that a checkpoint holds the whole iteration.

    Args:
        checkpointer: writes the files.
        period: in iterations; 0: only at the end.
        weights: returns the weights for evaluation, which model_final holds.
    """

    def __init__(
        self, checkpointer: Checkpointer, period: int, weights: Callable[[], dict[str, Tensor]]
    ) -> None:
        self.checkpointer, self.period, self.weights = checkpointer, period, weights

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if self.period > 0 and done % self.period == 0:
            self._save(done)

    def after_train(self) -> None:
        if self.trainer.iter == self.trainer.max_iter:
            self._save(self.trainer.max_iter)
            self.checkpointer.save_weights(
                "model_final", self.weights(), iteration=self.trainer.max_iter - 1
            )

    def _save(self, done: int) -> None:
        self.checkpointer.save(f"model_{done - 1:07d}", iteration=done - 1)
