"""Keeps the moving average of the weights up to date."""

from d2ext.engine.ema import WeightAverage
from detectron2.engine import HookBase


class AverageWeights(HookBase):
    """Takes the model's weights into `average` after every step of the optimizer."""

    def __init__(self, average: WeightAverage) -> None:
        self.average = average

    def after_step(self) -> None:
        self.average.update()
