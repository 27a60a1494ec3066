"""Hook that updates the exponential moving average (EMA) of the weights."""

from d2ext.engine.ema import WeightAverage
from detectron2.engine import HookBase


class AverageWeights(HookBase):
    """Updates `average` with the model's weights after every optimizer step."""

    def __init__(self, average: WeightAverage) -> None:
        self.average = average

    def after_step(self) -> None:
        self.average.update()
