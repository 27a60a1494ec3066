"""Evaluators that are chosen by what a model returns."""

from collections.abc import Callable, Iterable, Mapping

from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm


class EvaluatorsByOutput(DatasetEvaluator):
    """One evaluator per kind of prediction; those that the model does not make are not built.

    Args:
        builders: by the key of the dictionary that a model returns per image.
    """

    def __init__(self, builders: Mapping[str, Callable[[], DatasetEvaluator]]) -> None:
        self.builders = builders
        self.evaluators: dict[str, DatasetEvaluator] = {}

    def reset(self) -> None:
        self.evaluators = {}

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        # A data set's dicts come in one form, so every output of a model has the same keys.
        self._build(key for key in self.builders if outputs and key in outputs[0])
        for evaluator in self.evaluators.values():
            evaluator.process(inputs, outputs)

    def _build(self, keys: Iterable[str]) -> None:
        for key in keys:
            if key not in self.evaluators:
                self.evaluators[key] = self.builders[key]()
                self.evaluators[key].reset()

    def evaluate(self) -> dict[str, dict[str, float]]:
        # A process without images has built none, and the others wait for it to evaluate, too.
        asked = {key for keys in comm.all_gather([*self.evaluators]) for key in keys}
        self._build(key for key in self.builders if key in asked)
        results: dict[str, dict[str, float]] = {}
        for key in self.builders:
            if key in self.evaluators:
                results |= self.evaluators[key].evaluate() or {}
        return results
